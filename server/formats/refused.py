"""Unsupported formats that are detected to give useful advice: camera raw, GIF and others."""

from collections.abc import Mapping

from server.errors import UnsupportedImage
from server.formats.base import Format

# Camera raw files that are not TIFF, or differ from it in their first bytes; the TIFF reader detects the others.
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
_CANON_BRAND = b"ftypcrx "
_OTHERS = {
    b"GIF8": "GIF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}


def camera_raw_error(kind: str = "") -> UnsupportedImage:
    """Build the error for a camera raw file, whose only readable picture is a preview."""
    named = f"camera raw ({kind})" if kind else "camera raw"
    return UnsupportedImage(
        f"The upload is {named}, unprocessed sensor data, which is not supported: develop it first, "
        "for example with darktable, and send the TIFF, PNG or JPEG."
    )


def refuse_camera_raw(data: bytes) -> None:
    """Raise UnsupportedImage if a file starts like camera raw."""
    kind = "Canon CR3" if data[4:12] == _CANON_BRAND else _starting(_CAMERA_RAW, data)
    if kind:
        raise camera_raw_error(kind)


def reason(data: bytes) -> str:
    """Explain why a file of an unknown format is refused; the caller appends the readable formats."""
    name = _starting(_OTHERS, data)
    if name == "GIF":
        return "GIF is not supported: save the picture, or each frame of an animation, in one of these formats"
    if name:
        return f"{name} is not supported: convert it to one of these formats"
    return "The upload is not an image in a supported format"


def not_installed(known: Format) -> str:
    """Explain that a format needs a library that is not installed."""
    return (
        f"{known.name} needs the extra `{known.extra}`, which is not installed on this server; "
        "convert the photo to another format"
    )


def _starting(names: Mapping[bytes, str], data: bytes) -> str:
    if not data.startswith(tuple(names)):  # nearly always
        return ""
    return next(name for start, name in names.items() if data.startswith(start))
