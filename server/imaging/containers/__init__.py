"""Containers: one module for each file format that is read, all of the same shape."""

from collections.abc import Mapping

from server.errors import UnsupportedImage
from server.imaging.containers import avif, bmp, heic, jpeg, png, tiff, webp
from server.imaging.containers.base import Container
from server.imaging.containers.heif.brands import format_by_brands

BY_FORMAT: Mapping[str, Container] = {"JPEG": jpeg, "PNG": png, "WebP": webp, "TIFF": tiff, "BMP": bmp, "AVIF": avif}
if heic.is_installed():
    BY_FORMAT = {**BY_FORMAT, heic.NAME: heic}
FORMATS = tuple(BY_FORMAT)

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
    return next((name for start, name in _SIGNATURES.items() if data.startswith(start)), "")
