"""HEIF files built box by box, valid and broken."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image

from server.formats.heif.items import read_items

ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"


@dataclass(frozen=True)
class Piece:
    """One item; `properties` are whole boxes."""

    kind: bytes
    content: bytes = b""
    properties: tuple[bytes, ...] = ()
    content_type: bytes = b""


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def size(width: int, height: int) -> bytes:
    return full(b"ispe", struct.pack(">II", width, height))


def heif(
    *pieces: Piece,
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
    brands: Sequence[bytes] = (b"avif", b"mif1", b"miaf"),
    tables: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """Build a file whose items are numbered from 1, picture first; `tables` are more boxes in its meta box."""
    listed = [one for piece in pieces for one in piece.properties]
    infos = b"".join(
        full(b"infe", struct.pack(">HH4s", number, 0, piece.kind) + b"\0" + piece.content_type + b"\0", version=2)
        for number, piece in enumerate(pieces, 1)
    )
    associations, place = b"", 1
    for number, piece in enumerate(pieces, 1):
        essential = (0x8000 * (one[4:8] in (b"clap", b"irot", b"imir")) for one in piece.properties)
        places = [at + flag for at, flag in enumerate(essential, place)]
        associations += struct.pack(">HB", number, len(places)) + b"".join(struct.pack(">H", one) for one in places)
        place += len(places)
    referring = b"".join(
        box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for kind, source, to in references
    )
    properties = box(b"ipco", b"".join(listed)) + full(b"ipma", struct.pack(">I", len(pieces)) + associations, flags=1)

    def meta(start: int) -> bytes:
        at, places = start, b""
        for number, piece in enumerate(pieces, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(piece.content))
            at += len(piece.content)
        return full(
            b"meta",
            full(b"hdlr", b"\0\0\0\0pict" + bytes(13))
            + full(b"pitm", b"\0\1")
            + full(b"iloc", struct.pack(">BBH", 0x44, 0, len(pieces)) + places)
            + full(b"iinf", struct.pack(">H", len(pieces)) + infos)
            + box(b"iprp", properties)
            + (full(b"iref", referring) if referring else b"")
            + tables,
        )

    head = box(b"ftyp", brands[0] + bytes(4) + b"".join(brands))
    content = b"".join(piece.content for piece in pieces)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", content) + tail


def picture(data: bytes) -> Piece:
    """Return the primary item of an encoder's file, with its properties."""
    items = read_items(data)
    item = items.by_number[items.primary]
    return Piece(item.kind, items.content(item), tuple(data[one.start : one.end] for one in item.properties))


def av1(width: int = 36, height: int = 20, mode: str = "RGB") -> Piece:
    """Encode a picture of noise with Pillow."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(file, "AVIF", speed=10)
    return picture(file.getvalue())


def resized(piece: Piece, width: int, height: int) -> Piece:
    """Return the coded picture with another size in its tables."""
    return with_properties(without(piece, b"ispe"), size(width, height))


def without(piece: Piece, kind: bytes) -> Piece:
    """Return the item without its properties of a kind."""
    return replace(piece, properties=tuple(one for one in piece.properties if one[4:8] != kind))


def with_properties(piece: Piece, *more: bytes) -> Piece:
    """Return the item with additional properties in front."""
    return replace(piece, properties=(*more, *piece.properties))
