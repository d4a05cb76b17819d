"""Container: what the modules of the file formats have in common."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.imaging.metadata import Metadata

Samples = NDArray[np.uint8] | NDArray[np.uint16]

# Rows that are converted together: what they take in between is a small part of a large photo.
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Header:
    """What a file says about itself: its format, its size and what must survive the round trip.

    A container reads the size as stored; `probe` answers the size as shown, the orientation applied.
    """

    format: str
    width: int
    height: int
    is_grey: bool
    has_alpha: bool
    depth: int = 8
    """Bits of a sample; more than 8 are decoded to 16."""
    frames: int = 1
    orientation: int = 1
    """EXIF 1..8, still to be applied to the decoded pixels."""
    metadata: Metadata = field(default_factory=Metadata)
    """As in the file, the profile and the EXIF perhaps broken."""
    parts: frozenset[str] = frozenset()
    """What else the file holds, of which no answer has anything: gain-map, motion-video, depth-map."""
    padded_pixels: int = 0
    """The pixels of all tiles that are decoded whole, where they are more than those of the image."""

    @property
    def decoded_pixels(self) -> int:
        """What is decoded, and so charged."""
        return max(self.width * self.height, self.padded_pixels)

    @property
    def decoded_bytes(self) -> int:
        """What the decoded image takes."""
        channels = (1 if self.is_grey else 3) + self.has_alpha
        return self.width * self.height * channels * (1 if self.depth <= 8 else 2)


class Planes(NamedTuple):
    """Decoded samples as stored: one (H, W) grey plane, or red, green and blue, and the alpha."""

    colour: tuple[Samples, ...]
    alpha: Samples | None


class Container(Protocol):
    """A module that reads one format; both functions raise InvalidImage and nothing else for hostile bytes."""

    def read_header(self, data: bytes, max_metadata_bytes: int) -> Header:
        """Read sizes and metadata, no pixel; the time is bounded whatever the bytes."""

    def decode(self, data: bytes, header: Header) -> Planes:
        """Decode the pixels, not turned."""


def metadata_within(kind: str, size: int, max_metadata_bytes: int) -> None:
    """Raise ImageTooLarge if a profile, EXIF or XMP is larger than the limit."""
    if size > max_metadata_bytes:
        raise ImageTooLarge(
            f"The image carries more than {max_metadata_bytes} bytes of {kind}: remove it, or send less.",
            max_metadata_bytes=max_metadata_bytes,
        )


def several_frames(name: str) -> UnsupportedImage:
    """The refusal of an animation, or of a file of several pages, with a word on how to split it."""
    advice = f"split it first, for example with `magick upload.{name.lower()} frame-%03d.png`"
    return UnsupportedImage(f"The {name} holds more than one frame, and one is taken: {advice}.")


def decode_with_opencv(data: bytes | NDArray[np.uint8], header: Header) -> Samples:
    """(H, W) grey or (H, W, 3 or 4) BGR samples of 8 or 16 bits; raises UndecodableImage."""
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UndecodableImage(f"The {header.format} is damaged and cannot be decoded.") from error
    if samples is None or samples.dtype not in (np.uint8, np.uint16):
        raise UndecodableImage(f"The {header.format} is cut off or damaged and cannot be decoded.")
    return samples  # type: ignore[no-any-return]  # OpenCV's stubs do not know the sample type


def planes_of(samples: Samples, header: Header) -> Planes:
    """Take OpenCV's samples apart; what the header does not promise (a spare alpha, equal channels) is left out."""
    if samples.ndim == 2:
        return Planes((samples,), None)
    blue, green, red, *alpha = cv2.split(samples)
    colour = (green,) if header.is_grey else (red, green, blue)
    return Planes(colour, alpha[0] if alpha and header.has_alpha else None)


def planes_of_picture(picture: PIL.Image.Image, mode: str) -> Planes:
    """Convert Pillow's picture to L, LA, RGB or RGBA and take it apart, a band of rows at a time."""
    width, height = picture.size
    planes = [np.empty((height, width), np.uint8) for _ in mode]
    for top in range(0, height, ROWS_AT_ONCE):
        bottom = min(height, top + ROWS_AT_ONCE)
        band = np.asarray(picture.crop((0, top, width, bottom)).convert(mode)).reshape(bottom - top, width, len(mode))
        for channel, plane in enumerate(planes):
            plane[top:bottom] = band[:, :, channel]
    alpha = planes.pop() if mode.endswith("A") else None
    return Planes(tuple(planes), alpha)
