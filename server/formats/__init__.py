"""The file formats: a list with one line each, and the recognition of a file's format by its first bytes."""

from collections.abc import Mapping, Sequence

from server.errors import UnsupportedImage
from server.formats import avif, bmp, heic, jpeg, png, refused, tiff, webp
from server.formats.base import Format

DEFAULT = png.FORMAT
"""The format of responses to requests that do not choose one, or name one that is not written."""
KNOWN = (
    jpeg.FORMAT,
    DEFAULT,
    webp.FORMAT,
    avif.FORMAT,
    tiff.FORMAT,
    bmp.FORMAT,
    heic.FORMAT,
)
"""Every format that this server can read if its library is installed, in the order in which they are listed."""

BY_NAME: Mapping[str, Format] = {one.name: one for one in KNOWN if one.is_installed}
"""The formats that are read, by name."""
NAMES = tuple(BY_NAME)
WRITTEN: Mapping[str, Format] = {
    one.key: one for one in (DEFAULT, *KNOWN) if one.encoder is not None and one.is_installed
}
"""The formats that are written, by the name that clients use, the default first."""
SUFFIXES: Mapping[str, Format] = {suffix: one for one in BY_NAME.values() for suffix in one.suffixes}
"""The formats that are read, by file name suffix."""


def format_of(data: bytes) -> Format:
    """Return the format of a file by its first bytes; raises UnsupportedImage that names those that are read."""
    refused.refuse_camera_raw(data)
    found = next((one for one in KNOWN if one.matches(data)), None)
    if found is not None and found.is_installed:
        return found
    reason = refused.reason(data) if found is None else refused.not_installed(found)
    raise UnsupportedImage(f"{reason}: {', '.join(NAMES)}.", allowed_formats=list(NAMES))


def listing(names: Sequence[str], word: str) -> str:
    """Join names into a phrase, such as "JPEG, WebP and AVIF" with the word "and"."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
