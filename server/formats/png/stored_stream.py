"""Zlib streams of stored (uncompressed) blocks (RFC 1950, RFC 1951 section 3.2.4)."""

import struct
from collections.abc import Iterable

from isal import isal_zlib

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


def store(pieces: Iterable[bytes | memoryview], size: int, into: memoryview) -> int:
    """Write a stored stream into a buffer of `stored_bytes(size)` bytes; returns how many bytes `pieces` had.

    The stream is incomplete if there were fewer than `size`. The bytes are copied piece by piece, because a large photo
    has hundreds of megabytes.
    """
    into[: len(_START)] = _START
    at, done, room, checksum = len(_START), 0, 0, 1
    for piece in pieces:
        checksum = isal_zlib.adler32(piece, checksum)
        rest = memoryview(piece)
        while len(rest):
            if room == 0:
                room = min(BLOCK_BYTES, size - done)
                struct.pack_into("<BHH", into, at, done + room == size, room, room ^ 0xFFFF)
                at += _HEADER_BYTES
            part, rest = rest[:room], rest[room:]
            into[at : at + len(part)] = part
            at, done, room = at + len(part), done + len(part), room - len(part)
    struct.pack_into(">I", into, at, checksum)
    return done
