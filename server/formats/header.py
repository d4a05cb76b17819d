"""Reads the header of an upload and checks it against the limits before any pixel is decoded."""

from typing import NamedTuple

from server import formats
from server.errors import EmptyUpload, ImageTooLarge, UndecodableImage
from server.formats.base import Header as Header
from server.formats.base import multiple_frames_error
from server.imaging.memory import blaming_memory
from server.settings import LimitSettings

_LONGEST_SIGNATURE = 12  # bytes, of WebP


class Peeked(NamedTuple):
    """What the first bytes of an upload tell: the name of its format, and its size before orientation."""

    format: str
    height: int
    width: int


def peek(start: bytes, limits: LimitSettings) -> Peeked | None:
    """Read format and size from the first bytes of an upload; None if more bytes are needed.

    Raises UnsupportedImage, ImageTooLarge or UndecodableImage, for a file that `probe` would refuse as well. Takes
    microseconds.
    """
    if len(start) < _LONGEST_SIGNATURE:
        return None
    found = formats.format_of(start)
    size = found.dimensions(start)
    if size is None:
        return None
    check_size(*size, limits)
    return Peeked(found.name, *size)


def probe(data: bytes, limits: LimitSettings) -> Header:
    """Read the header of an encoded image, with the size as displayed, and check it against the limits.

    Raises EmptyUpload, UnsupportedImage (not an image, or an unsupported kind), UndecodableImage (malformed header),
    ImageTooLarge (bytes, pixels, side, or bytes of metadata) or MemoryShort.
    """
    if not data:
        raise EmptyUpload("The upload is empty: send the bytes of one image.")
    if len(data) > limits.max_upload_bytes:
        raise ImageTooLarge(
            f"The upload has {len(data)} bytes; at most {limits.max_upload_bytes} are accepted.",
            max_upload_bytes=limits.max_upload_bytes,
        )
    found = formats.format_of(data)
    with blaming_memory():
        header = found.read_header(data, limits.max_metadata_bytes)
    # `peek` admits and charges uploads by these dimensions, so they must equal the decoded ones.
    if not found.states_size_once and found.dimensions(data) not in (None, (header.height, header.width)):
        raise UndecodableImage(f"The {found.name} states two different sizes.")
    if header.orientation >= 5:  # these swap width and height
        header = header._replace(width=header.height, height=header.width)
    check_size(header.height, header.width, limits)
    if header.frames > 1:
        raise multiple_frames_error(header.format)
    return header


def is_quick(data: bytes) -> bool:
    """Return whether `probe` takes less time on these bytes than a switch to another thread."""
    found = formats.recognised(data)
    return found is None or found.is_quick(data)


def check_size(height: int, width: int, limits: LimitSettings) -> None:
    """Raise ImageTooLarge for a size beyond the limits, UndecodableImage for a size without pixels."""
    if width < 1 or height < 1:
        raise UndecodableImage(f"The image states a size of {width} x {height} pixels.")
    if max(width, height) > limits.max_image_side:
        raise ImageTooLarge(
            f"The image is {width} x {height}; a side may have at most {limits.max_image_side} pixels.",
            max_image_side=limits.max_image_side,
        )
    if width * height > limits.max_image_pixels:
        raise ImageTooLarge(
            f"The image is {width} x {height}, {width * height} pixels; the limit is {limits.max_image_pixels}.",
            max_image_pixels=limits.max_image_pixels,
        )
