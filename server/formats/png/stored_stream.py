"""Zlib streams of stored (uncompressed) blocks (RFC 1950, RFC 1951 section 3.2.4)."""

import struct
from collections.abc import Iterable

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_START = b"\x78\x01"
_HEADER_BYTES, _CHECKSUM_BYTES = 5, 4
BLOCK_BYTES = 65_535
"""The most that one block holds."""


def stored_bytes(size: int) -> int:
    """Return the length of a stored stream of `size` bytes, at least one."""
    blocks = -(-size // BLOCK_BYTES)
    return len(_START) + blocks * _HEADER_BYTES + size + _CHECKSUM_BYTES


def stored(data: bytes) -> bytes:
    """Return a stored stream of one block, of at most BLOCK_BYTES."""
    header = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)
    return b"".join((_START, header, data, struct.pack(">I", isal_zlib.adler32(data))))


def store(pieces: Iterable[bytes | memoryview], size: int, into: Bytes) -> int:
    """Write a stored stream into an array of `stored_bytes(size)` bytes; returns how many bytes `pieces` had.

    The stream is incomplete if there were fewer than `size`; they must not have more. The bytes are copied piece by
    piece, because a large photo has hundreds of megabytes.
    """
    into[: len(_START)] = np.frombuffer(_START, np.uint8)
    at, done, room, checksum = len(_START), 0, 0, 1
    for piece in pieces:
        checksum = isal_zlib.adler32(piece, checksum)
        rest = np.frombuffer(piece, np.uint8)
        while len(rest):
            if room == 0 and (blocks := len(rest) // BLOCK_BYTES):
                count = blocks * BLOCK_BYTES
                _store_blocks(rest[:count].reshape(blocks, BLOCK_BYTES), into[at:], done + count == size)
                at, done, rest = at + blocks * (_HEADER_BYTES + BLOCK_BYTES), done + count, rest[count:]
                continue
            if room == 0:
                room = min(BLOCK_BYTES, size - done)
                into[at : at + _HEADER_BYTES] = _header(room, done + room == size)
                at += _HEADER_BYTES
            part, rest = rest[:room], rest[room:]
            into[at : at + len(part)] = part
            at, done, room = at + len(part), done + len(part), room - len(part)
    into[at : at + _CHECKSUM_BYTES] = np.frombuffer(struct.pack(">I", checksum), np.uint8)
    return done


def _store_blocks(blocks: Bytes, into: Bytes, is_end: bool) -> None:
    # NumPy copies whole blocks without the interpreter lock.
    stored = into[: len(blocks) * (_HEADER_BYTES + BLOCK_BYTES)].reshape(len(blocks), -1)
    stored[:, :_HEADER_BYTES] = _header(BLOCK_BYTES, False)
    stored[:, _HEADER_BYTES:] = blocks
    stored[-1, 0] = is_end  # the first byte tells the last block


def _header(size: int, is_end: bool) -> Bytes:
    return np.frombuffer(struct.pack("<BHH", is_end, size, size ^ 0xFFFF), np.uint8)
