"""Containers: one module for each file format that is read, all of the same shape."""

from collections.abc import Mapping

from server.errors import UnsupportedImage
from server.formats import avif, bmp, heic, jpeg, png, tiff, webp
from server.formats.base import Container
from server.formats.heif.brands import format_by_brands
from server.formats.tiff_pages import camera_raw

BY_FORMAT: Mapping[str, Container] = {"JPEG": jpeg, "PNG": png, "WebP": webp, "TIFF": tiff, "BMP": bmp, "AVIF": avif}
if heic.is_installed():
    BY_FORMAT = {**BY_FORMAT, heic.NAME: heic}
FORMATS = tuple(BY_FORMAT)

# Of cameras whose raw files are no TIFF, or say so at once; the others are known by their directories.
_CAMERA_RAW = {
    b"II*\0\x10\0\0\0CR": "Canon CR2",
    b"II\x1a\0\0\0HEAPCCDR": "Canon CRW",
    b"FUJIFILMCCD-RAW": "Fujifilm RAF",
    b"IIRO": "Olympus ORF",
    b"IIRS": "Olympus ORF",
    b"MMOR": "Olympus ORF",
    b"IIU\0": "Panasonic RW2",
    b"\0MRM": "Minolta MRW",
    b"FOVb": "Sigma X3F",
}
_CANON_BRAND = b"crx "
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}


def format_of(data: bytes) -> str:
    """Tell the format by the first bytes; raises UnsupportedImage with the list of those that are read."""
    kind = "Canon CR3" if data[4:12] == b"ftyp" + _CANON_BRAND else _starting(_CAMERA_RAW, data)
    if kind:
        raise camera_raw(kind)
    name = _named(data)
    if name in BY_FORMAT:
        return name
    kinds = ", ".join(FORMATS)
    what = "The upload is not an image of a kind that is read here"
    if name:
        what = f"{name} is not read here: convert it to one of the kinds that are"
    if name == heic.NAME:
        what = f"HEIC is read with the extra `{heic.EXTRA}`, which this server lacks; convert the photo to another kind"
    if name == "GIF":
        what = "GIF is not read here: save the picture, or each frame of an animation, as one of the kinds that are"
    raise UnsupportedImage(f"{what}: {kinds}.", allowed_formats=list(FORMATS))


def _named(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return format_by_brands(data)
    return _starting(_SIGNATURES, data)


def _starting(names: Mapping[bytes, str], data: bytes) -> str:
    return next((name for start, name in names.items() if data.startswith(start)), "")
