"""Brands: the codes in the first box of a HEIF file that name its format (ISO/IEC 23008-12, section 10)."""

from server.formats.heif.boxes import BrokenBoxError
from server.formats.heif.items import read_items
from server.formats.heif.picture import CODECS

_AVIF = frozenset({b"avif", b"avis", b"avio", b"MA1A", b"MA1B"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"MiHB", b"MiHA", b"MiHE"})
_HEIF = frozenset({b"mif1", b"mif2", b"msf1", b"miaf"})
_MAX_BYTES = 4096
_BRANDS_AT = 16


def is_heif(start: bytes) -> bool:
    """Return whether a file starts with an ftyp box, as every ISO base media file does."""
    return start[4:8] == b"ftyp"


def format_by_brands(data: bytes) -> str:
    """Return "AVIF", "HEIC" or an empty string, by the first brand that names a codec, starting with the major brand.

    If no brand names a codec, the picture's codec decides. `data` may be the start of a file, even with the list of
    brands cut off.
    """
    size = min(int.from_bytes(data[:4], "big"), _MAX_BYTES)
    places = [8, *range(_BRANDS_AT, min(size, len(data)) - 3, 4)]
    brands = [data[at : at + 4] for at in places]
    for brand in brands:
        if brand in _AVIF or brand in _HEIC:
            return "AVIF" if brand in _AVIF else "HEIC"
    if not _HEIF.intersection(brands):
        return ""
    try:
        items = read_items(data)
    except BrokenBoxError:
        return "AVIF"  # the AVIF reader rejects it after the complete upload
    kinds = {item.kind for item in items.by_number.values()}
    return "HEIC" if kinds & CODECS["HEIC"] else "AVIF"
