"""Brands: what the first box of a HEIF file says that it is (ISO/IEC 23008-12, section 10)."""

from server.formats.heif.boxes import BrokenBoxError
from server.formats.heif.items import read_items
from server.formats.heif.picture import CODECS

_AVIF = frozenset({b"avif", b"avis", b"avio", b"MA1A", b"MA1B"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"MiHB", b"MiHA", b"MiHE"})
_HEIF = frozenset({b"mif1", b"mif2", b"msf1", b"miaf"})
_MOST_BYTES = 4096
_BRANDS_AT = 16


def format_by_brands(data: bytes) -> str:
    """AVIF, HEIC or an empty name, by the major brand, or where that is a general one by the compatible ones.

    Where neither names a codec, the kind of the picture does. The list of brands may be cut off, if more of the file is
    to come.
    """
    size = min(int.from_bytes(data[:4], "big"), _MOST_BYTES)
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
        return "AVIF"  # it is refused by its container, once it is whole
    kinds = {item.kind for item in items.by_number.values()}
    return "HEIC" if kinds & CODECS["HEIC"] else "AVIF"
