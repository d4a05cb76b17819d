"""Description of a file format, and the header and planes that its reader returns."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from server.concurrency import INLINE_BYTES
from server.errors import ImageTooLarge, UnsupportedImage
from server.imaging.metadata import NO_METADATA, Metadata

Samples = NDArray[np.uint8] | NDArray[np.uint16]
QUICK_BYTES, QUICK_PARTS = 256 * 1024, 64
"""The header of a file of at most this size, with at most this many chunks or segments, is short work for a loop."""


class Header(NamedTuple):
    """Format, size and metadata of a file, read before any pixel is decoded.

    A format's reader returns the size as stored; `probe` returns the size as displayed, after orientation.
    """

    format: str
    """The format's name, a key of `formats.BY_NAME`."""
    width: int
    height: int
    is_grey: bool
    has_alpha: bool
    depth: int = 8
    """Bits per sample; samples of more than 8 bits are decoded to 16."""
    frames: int = 1
    orientation: int = 1
    """EXIF orientation 1..8, not yet applied to the decoded pixels."""
    metadata: Metadata = NO_METADATA
    """As stored in the file; the profile and the EXIF may be malformed."""
    parts: frozenset[str] = frozenset()
    """Content of the file that responses leave out: gain-map, motion-video, depth-map."""
    padded_pixels: int = 0
    """Pixels of all stored tiles, padding included, if tiles are decoded whole; 0 if the file has no tiles."""
    found: object = None
    """Where the reader found what its `decode` needs, so that it does not walk through the file again; or None."""

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """Pickle without `found`: another process finds it faster than it unpickles it."""
        return type(self), tuple(self._replace(found=None))

    @property
    def decoded_pixels(self) -> int:
        """The number of pixels that the decoder produces; requests are charged by it."""
        return max(self.width * self.height, self.padded_pixels)

    @property
    def decoded_bytes(self) -> int:
        """The size of the decoded image in bytes."""
        channels = (1 if self.is_grey else 3) + self.has_alpha
        return self.width * self.height * channels * (1 if self.depth <= 8 else 2)


class JoinedPlanes(tuple[Samples, ...]):
    """The planes (H, W) of one array (C, H, W), in its order; what handles planes one by one need not know.

    NumPy and OpenCV give up the interpreter lock in each call and must wait to get it back, so one call for all planes
    is faster than one for each.
    """

    whole: Samples

    def __new__(cls, whole: Samples) -> Self:
        """Split an array (C, H, W) into views."""
        planes = super().__new__(cls, whole)
        planes.whole = whole
        return planes


class Planes(NamedTuple):
    """Samples of an image as (H, W) planes: grey, or red, green and blue, and optionally alpha."""

    colour: tuple[Samples, ...]
    alpha: Samples | None

    @property
    def is_grey(self) -> bool:
        return len(self.colour) == 1

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """The type of the colour samples."""
        return self.colour[0].dtype

    @property
    def all(self) -> list[Samples]:
        """The colour planes followed by the alpha plane, if there is one."""
        return [*self.colour] if self.alpha is None else [*self.colour, self.alpha]


class PngEffort(StrEnum):
    """How long the PNG encoder searches for a smaller file."""

    FAST = "fast"
    SMALL = "small"


class EncoderOptions(NamedTuple):
    """Settings of an encoder; each format reads those that apply to it."""

    quality: int
    """1..100, for lossy formats."""
    effort: PngEffort = PngEffort.FAST


@dataclass(frozen=True)
class Encoder:
    """Encoder of a format, and what it preserves."""

    encode: Callable[[Planes, Metadata, EncoderOptions], bytes]
    """Encodes planes of uint8 or uint16, converted to a depth and channels that the format can store."""
    is_lossy: bool
    longest_side: int | None = None
    """Pixels; None if the format can store every accepted image."""
    depth: int = 8
    """Stored bits per sample of images of more than 8 bits without alpha."""
    depth_with_alpha: int = 8
    """The same for images with alpha."""
    is_fast: bool = True
    """Whether encoding a small image takes less time than a switch to another thread."""

    def keeps_depth(self, *, has_alpha: bool) -> bool:
        """Return whether samples of more than 8 bits are stored with more than 8 bits."""
        return (self.depth_with_alpha if has_alpha else self.depth) > 8


@dataclass(frozen=True)
class Format:
    """A file format with its detection, its reader and, optionally, its encoder.

    Every function accepts hostile bytes. `read_header` and `decode` raise only InvalidImage.
    """

    name: str
    """The name in response headers and messages, for example "WebP"."""
    media_type: str
    suffixes: tuple[str, ...]
    """Lower-case file name suffixes with the dot, the usual one first."""
    matches: Callable[[bytes], bool]
    """Whether a file that starts with these bytes (12 or more) has this format."""
    read_header: Callable[[bytes, int], Header]
    """Reads the header of a file without decoding pixels; takes the limit in bytes for each kind of metadata."""
    decode: Callable[[bytes, Header], Planes]
    """Decodes the pixels as stored, without applying the orientation."""
    peek: Callable[[bytes], tuple[int, int] | None] | None = None
    """Reads (height, width) from the first bytes of a file; None if more bytes are needed. May raise struct.error.

    None for formats whose size may be stated anywhere in the file.
    """
    states_size_once: bool = False
    """Whether `peek` and `read_header` take the size from the same bytes, so that they cannot disagree."""
    is_quick: Callable[[bytes], bool] = lambda data: len(data) <= INLINE_BYTES
    """Whether `read_header` takes less time than a switch to another thread; takes microseconds, whatever the bytes."""
    encoder: Encoder | None = None
    """None for read-only formats."""
    library: str = ""
    """An optional Python module that the reader needs."""
    extra: str = ""
    """The extra of this package that installs `library`."""

    @property
    def key(self) -> str:
        """The name that clients use in requests, for example "webp"."""
        return self.name.lower()

    @property
    def is_installed(self) -> bool:
        """Whether the library that the reader needs can be imported."""
        return not self.library or find_spec(self.library) is not None

    def dimensions(self, start: bytes) -> tuple[int, int] | None:
        """Read (height, width) before orientation from the first bytes of a file.

        None if the bytes are too few or malformed, or the format states its size elsewhere. Only `read_header`
        validates a file: use this size to reject an upload early, never to accept it.
        """
        try:
            return None if self.peek is None else self.peek(start)
        except struct.error:  # too few bytes
            return None


def starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    """Return a predicate: whether bytes start with one of the signatures."""
    return lambda start: start.startswith(signatures)


def check_metadata_size(kind: str, size: int, max_metadata_bytes: int) -> None:
    """Raise ImageTooLarge if a profile, EXIF or XMP of `size` bytes exceeds the limit."""
    if size > max_metadata_bytes:
        raise ImageTooLarge(
            f"The image contains more than {max_metadata_bytes} bytes of {kind}: remove or shorten it.",
            max_metadata_bytes=max_metadata_bytes,
        )


def multiple_frames_error(name: str) -> UnsupportedImage:
    """Build the error for an animation or a multi-page file; its message says how to split the file."""
    advice = f"split it first, for example with `magick upload.{name.lower()} frame-%03d.png`"
    return UnsupportedImage(f"The {name} contains more than one frame; only one is accepted: {advice}.")
