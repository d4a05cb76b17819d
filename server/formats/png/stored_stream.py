"""Zlib streams of stored (uncompressed) blocks (RFC 1950, RFC 1951 section 3.2.4)."""

import struct
from collections.abc import Iterable

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_START = b"\x78\x01"
_HEADER, _CHECKSUM = struct.Struct("<BHH"), struct.Struct(">I")
BLOCK_BYTES = 65_535
"""The most that one block holds."""


def stored_bytes(size: int) -> int:
    """Return the length of a stored stream of `size` bytes, at least one."""
    blocks = -(-size // BLOCK_BYTES)
    return len(_START) + blocks * _HEADER.size + size + _CHECKSUM.size


def stored(data: bytes) -> bytes:
    """Return a stored stream of one block, of at most BLOCK_BYTES."""
    header = _HEADER.pack(True, len(data), len(data) ^ 0xFFFF)
    return b"".join((_START, header, data, _CHECKSUM.pack(isal_zlib.adler32(data))))


def store(pieces: Iterable[bytes | memoryview], size: int, into: Bytes) -> int:
    """Write a stored stream into an array of `stored_bytes(size)` bytes; returns how many bytes `pieces` had.

    The stream is incomplete if there were fewer than `size`; they must not have more. The bytes are copied piece by
    piece, because a large photo has hundreds of megabytes.
    """
    view = into.data
    view[: len(_START)] = _START
    at, done, room, checksum = len(_START), 0, 0, 1
    for piece in pieces:
        checksum = isal_zlib.adler32(piece, checksum)
        rest = np.frombuffer(piece, np.uint8)
        while len(rest):
            if room == 0 and (blocks := len(rest) // BLOCK_BYTES):
                count = blocks * BLOCK_BYTES
                _store_blocks(rest[:count].reshape(blocks, BLOCK_BYTES), into[at:], done + count == size)
                at, done, rest = at + blocks * (_HEADER.size + BLOCK_BYTES), done + count, rest[count:]
                continue
            if room == 0:
                room = min(BLOCK_BYTES, size - done)
                _HEADER.pack_into(view, at, done + room == size, room, room ^ 0xFFFF)
                at += _HEADER.size
            part, rest = rest[:room], rest[room:]
            into[at : at + len(part)] = part
            at, done, room = at + len(part), done + len(part), room - len(part)
    _CHECKSUM.pack_into(view, at, checksum)
    return done


def _store_blocks(blocks: Bytes, into: Bytes, is_end: bool) -> None:
    # NumPy copies whole blocks without the interpreter lock.
    stored = into[: len(blocks) * (_HEADER.size + BLOCK_BYTES)].reshape(len(blocks), -1)
    stored[:, : _HEADER.size] = np.frombuffer(_HEADER.pack(False, BLOCK_BYTES, BLOCK_BYTES ^ 0xFFFF), np.uint8)
    stored[:, _HEADER.size :] = blocks
    stored[-1, 0] = is_end  # the first byte tells the last block
