"""The list of file formats, and the detection of a file's format from its first bytes."""

from collections.abc import Mapping, Sequence

from server.errors import UnsupportedImage
from server.formats import avif, bmp, heic, jpeg, png, refused, tiff, webp
from server.formats.base import Format

DEFAULT = png.FORMAT
"""The format of responses to requests that choose no format, or one that has no encoder."""
KNOWN = (
    jpeg.FORMAT,
    DEFAULT,
    webp.FORMAT,
    avif.FORMAT,
    tiff.FORMAT,
    bmp.FORMAT,
    heic.FORMAT,
)
"""Every format that this server can read if its library is installed, in the order shown to clients."""

BY_NAME: Mapping[str, Format] = {one.name: one for one in KNOWN if one.is_installed}
"""The readable formats, by name."""
NAMES = tuple(BY_NAME)
WRITTEN: Mapping[str, Format] = {
    one.key: one for one in (DEFAULT, *KNOWN) if one.encoder is not None and one.is_installed
}
"""The formats with an encoder, by the name that clients use; the default comes first."""
SUFFIXES: Mapping[str, Format] = {suffix: one for one in BY_NAME.values() for suffix in one.suffixes}
"""The readable formats, by file name suffix."""


def recognised(data: bytes) -> Format | None:
    """Return the known format that a file begins as, whether or not this server can read it."""
    for one in KNOWN:  # a generator would take longer than the matches
        if one.matches(data):
            return one
    return None


def format_of(data: bytes) -> Format:
    """Detect the format of a file from its first bytes; raises UnsupportedImage, which lists the readable formats."""
    refused.refuse_camera_raw(data)
    found = recognised(data)
    if found is not None and found.is_installed:
        return found
    reason = refused.reason(data) if found is None else refused.not_installed(found)
    raise UnsupportedImage(f"{reason}: {', '.join(NAMES)}.", allowed_formats=list(NAMES))


def listing(names: Sequence[str], word: str) -> str:
    """Join names into a phrase, such as "JPEG, WebP and AVIF" for the word "and"."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
