"""Format: the description of one file format, and the header and planes that its reader returns."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.errors import ImageTooLarge, UnsupportedImage
from server.imaging.metadata import Metadata

Samples = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Header:
    """What a file states before any pixel is decoded: its format, its size and the data to preserve.

    A format's reader returns the size as stored; `probe` returns the size as shown, with the orientation applied.
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
    metadata: Metadata = field(default_factory=Metadata)
    """As stored in the file; the profile and the EXIF may be malformed."""
    parts: frozenset[str] = frozenset()
    """Other content of the file that no response contains: gain-map, motion-video, depth-map."""
    padded_pixels: int = 0
    """Pixels of all stored tiles with their padding, if these are decoded whole; 0 if the file has no tiles."""

    @property
    def decoded_pixels(self) -> int:
        """The number of pixels the decoder produces, which is what a request is charged for."""
        return max(self.width * self.height, self.padded_pixels)

    @property
    def decoded_bytes(self) -> int:
        """The size of the decoded image in bytes."""
        channels = (1 if self.is_grey else 3) + self.has_alpha
        return self.width * self.height * channels * (1 if self.depth <= 8 else 2)


class Planes(NamedTuple):
    """Samples of an image: one grey (H, W) plane, or red, green and blue, and the alpha plane if there is one."""

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
    """How a format is written, and what it preserves."""

    encode: Callable[[Planes, Metadata, EncoderOptions], bytes]
    """Encodes planes of uint8 or uint16; converts to what the format can store, such as 8 bits or three channels."""
    is_lossy: bool
    longest_side: int | None = None
    """Pixels; None if the format can store any image that is accepted."""
    depth: int = 8
    """Bits per sample that are stored for images of more than 8 bits without alpha."""
    depth_with_alpha: int = 8
    """The same for images with alpha."""
    is_fast: bool = True
    """Whether a small image is encoded in less time than it takes to hand it to another thread."""

    def keeps_depth(self, *, has_alpha: bool) -> bool:
        """Return whether samples of more than 8 bits are stored with more than 8 bits."""
        return (self.depth_with_alpha if has_alpha else self.depth) > 8


@dataclass(frozen=True)
class Format:
    """One file format: how to recognise, read and, if it has an encoder, write it.

    Every function may be given hostile bytes. `read_header` and `decode` raise InvalidImage for files they cannot
    read and nothing else.
    """

    name: str
    """As in headers and messages, for example "WebP"."""
    media_type: str
    suffixes: tuple[str, ...]
    """Lower-case file name suffixes with the dot, the usual one first."""
    matches: Callable[[bytes], bool]
    """Whether a file that starts with these bytes, at least 12 of them, has this format."""
    read_header: Callable[[bytes, int], Header]
    """Reads the header of a file; takes the limit in bytes for each kind of metadata. Decodes no pixel."""
    decode: Callable[[bytes, Header], Planes]
    """Decodes the pixels as stored, without applying the orientation."""
    peek: Callable[[bytes], tuple[int, int] | None] | None = None
    """Returns (height, width) from the first bytes of a file, None while they are too few; may raise struct.error.

    None for formats whose size may be stated anywhere in the file.
    """
    encoder: Encoder | None = None
    """None for formats that are only read."""
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
        """Return (height, width) as stored, before orientation, from the first bytes of a file.

        None if the bytes are too few or malformed, or the format does not state its size there. Only `read_header`
        validates a file: a size returned here may be used to reject an upload early, not to accept it.
        """
        try:
            return None if self.peek is None else self.peek(start)
        except struct.error:  # too few bytes
            return None


def starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    """Return a function that tells whether bytes start with one of the signatures."""
    return lambda start: start.startswith(signatures)


def check_metadata_size(kind: str, size: int, max_metadata_bytes: int) -> None:
    """Raise ImageTooLarge if a profile, EXIF or XMP of `size` bytes exceeds the limit."""
    if size > max_metadata_bytes:
        raise ImageTooLarge(
            f"The image carries more than {max_metadata_bytes} bytes of {kind}: remove it, or send less.",
            max_metadata_bytes=max_metadata_bytes,
        )


def multiple_frames_error(name: str) -> UnsupportedImage:
    """Return the error for an animation or a file of several pages, which says how to split it."""
    advice = f"split it first, for example with `magick upload.{name.lower()} frame-%03d.png`"
    return UnsupportedImage(f"The {name} contains more than one frame, and only one is accepted: {advice}.")
