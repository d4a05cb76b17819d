"""Code points: the numbers that name a file's colour space (ITU-T H.273)."""

import struct

from server.formats.heif.boxes import Box, Fields
from server.formats.heif.items import read_items

CODE_POINTS_CHUNK = b"cICP"
"""The PNG chunk that holds code points; `Metadata.colour_chunks` uses it for every format."""

_NCLX = b"nclx"
# sRGB and unspecified colours need no code points.
_SRGB_PRIMARIES, _SRGB_TRANSFERS = frozenset({1, 2}), frozenset({2, 13})
_LARGEST = 255


def code_points(data: bytes, box: Box | None) -> tuple[tuple[bytes, bytes], ...]:
    """Convert an nclx box to a cICP chunk for RGB: primaries and transfer, no matrix, full range.

    PNG specification, section 11.3.2.6. Empty for sRGB; raises BrokenBoxError for a truncated box.
    """
    if box is None:
        return ()
    fields = Fields(data, box.body + len(_NCLX), box.end)
    primaries, transfer = fields.integer(2), fields.integer(2)
    is_srgb = primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS
    if is_srgb or max(primaries, transfer) > _LARGEST:
        return ()
    return ((CODE_POINTS_CHUNK, bytes((primaries, transfer, 0, 1))),)


def with_code_points(avif: bytes, points: bytes) -> bytes:
    """Set the primaries and transfer of an encoded AVIF to those of a cICP chunk; the matrix is kept."""
    items = read_items(avif)
    for box in items.by_number[items.primary].properties:
        if box.kind == b"colr" and avif[box.body : box.body + 4] == _NCLX:
            at = box.body + len(_NCLX)
            return avif[:at] + struct.pack(">HH", *points[:2]) + avif[at + 4 :]
    raise ValueError("the encoder wrote no nclx box")
