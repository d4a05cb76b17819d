"""Decoding of any readable format to an Image, and encoding of an Image to any writable format."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import PIL.Image

from server import formats
from server.backends.base import Pixels
from server.errors import InvalidRequest, UndecodableImage
from server.formats.base import EncoderOptions, Header, JoinedPlanes, Planes, Samples
from server.formats.output import ColourPolicy, MetadataPolicy, OutputOptions
from server.formats.output import OutputFormat as OutputFormat
from server.imaging import colour
from server.imaging.memory import blaming_memory
from server.imaging.metadata import NO_METADATA, Metadata
from server.imaging.xmp import without_claims

_EIGHT_BITS = np.dtype(np.uint8)
_DEFAULT_OPTIONS = OutputOptions()
EVERYTHING = slice(None)

_SCALES = {np.dtype(kind): np.float32(1 / np.iinfo(kind).max) for kind in (np.uint8, np.uint16)}

SampleType = np.dtype[np.uint8] | np.dtype[np.uint16]


class Image(NamedTuple):
    """Decoded samples in upright orientation, with the metadata that a response preserves.

    `planes` are (H, W): red, green and blue, or grey. Planes and `alpha` have the source's sample type: a photo in
    float32 would take four times the memory, so `crop` converts one tile at a time.
    """

    planes: tuple[Samples, ...]
    alpha: Samples | None
    metadata: Metadata = NO_METADATA

    @property
    def is_grey(self) -> bool:
        return len(self.planes) == 1

    @property
    def dtype(self) -> SampleType:
        """The source's sample type, which determines the bit depth of a lossless response."""
        return self.planes[0].dtype

    def crop(self, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, into: Pixels | None = None) -> Pixels:
        """Convert some rows and columns to the network's input: (3, H, W) RGB float32 in [0, 1]; grey is repeated.

        Writes to `into` if given.
        """
        scale = _SCALES[self.dtype]
        if isinstance(self.planes, JoinedPlanes):
            return np.multiply(self.planes.whole[:, rows, columns], scale, out=into, dtype=np.float32)
        parts = [plane[rows, columns] for plane in self.planes]
        pixels = np.empty((3, *parts[0].shape), np.float32) if into is None else into
        for plane, part in zip(pixels, parts * (3 // len(parts)), strict=True):
            np.multiply(part, scale, out=plane, dtype=np.float32)
        return pixels


def silence_decoder_messages() -> None:
    """Configure the image libraries, once per process: no threads and no limits of their own, no messages on stderr."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # `probe` checks the size. Pillow's limit would call a TIFF of 16 bits damaged, whose bytes it reads as pixels.
    PIL.Image.MAX_IMAGE_PIXELS = None
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, header: Header, colours: ColourPolicy = ColourPolicy.KEEP) -> Image:
    """Decode the pixels of a probed image and apply its orientation.

    With `ColourPolicy.SRGB`, 8-bit colours are converted from their profile to sRGB; CMYK is always converted. Raises
    UndecodableImage for truncated or corrupt data, UnsupportedImage for unsupported kinds of samples, and MemoryShort.
    """
    with blaming_memory(header.decoded_bytes):
        return _decode(data, header, colours)


def _decode(data: bytes, header: Header, colours: ColourPolicy) -> Image:
    planes = formats.BY_NAME[header.format].decode(data, header)
    if header.orientation != 1 or not isinstance(planes.colour, JoinedPlanes):
        planes = planes._replace(colour=tuple([_upright(plane, header.orientation) for plane in planes.colour]))
    if planes.alpha is not None:
        planes = planes._replace(alpha=_upright(planes.alpha, header.orientation))
    height, width = planes.colour[0].shape
    if (height, width) != (header.height, header.width):
        raise UndecodableImage(
            f"The {header.format} header says {header.width} x {header.height} pixels, the data has {width} x {height}."
        )
    metadata = header.metadata.upright(header.orientation)
    if metadata.icc_profile is not None:
        profile = colour.cut(metadata.icc_profile)
        fits = colour.fits(profile, colour.GREY if planes.is_grey else colour.RGB)
        metadata = replace(metadata, icc_profile=profile if fits else None)
    if colours is ColourPolicy.SRGB and planes.dtype == _EIGHT_BITS:
        planes = planes._replace(colour=_srgb(planes.colour, metadata.profile(is_grey=planes.is_grey)))
        metadata = metadata.without_colour()
    return Image(planes.colour, planes.alpha, metadata)


def keeps_depth(output: OutputFormat, *, has_alpha: bool) -> bool:
    """Return whether samples of more than 8 bits are written with more than 8 bits."""
    return output.encoder.keeps_depth(has_alpha=has_alpha)


def encode(
    image: Image,
    planes: Sequence[Samples],
    output: OutputFormat,
    quality: int,
    options: OutputOptions = _DEFAULT_OPTIONS,
) -> bytes:
    """Encode restored planes, equal in number and type to those of `image`, with the alpha and metadata of `image`.

    `quality` is 1..100 and applies to lossy formats. Whether alpha, grey and bit depth survive depends on the format.
    Raises InvalidRequest if a side is longer than the format can store, and MemoryShort.
    """
    encoder, sides = output.encoder, planes[0].shape
    if encoder.longest_side is not None and max(sides) > encoder.longest_side:
        raise InvalidRequest(
            f"{output.file_format.name} holds at most {encoder.longest_side} pixels a side: ask for PNG."
        )
    metadata = image.metadata if options.metadata is MetadataPolicy.KEEP else image.metadata.without_exif_and_xmp()
    if metadata.xmp is not None:
        metadata = replace(metadata, xmp=without_claims(metadata.xmp))
    with blaming_memory(len(planes) * planes[0].nbytes):
        layers = Planes(tuple(planes), image.alpha)
        return encoder.encode(layers, metadata, EncoderOptions(quality, options.effort))


def _upright(samples: Samples, orientation: int) -> Samples:
    if orientation == 1 and samples.flags.c_contiguous:
        return samples
    # EXIF 2.32, tag 0x0112. Values 5 to 8 transpose the image before the mirroring below.
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return cast(Samples, np.ascontiguousarray(samples))


def _srgb(planes: tuple[Any, ...], profile: bytes | None) -> tuple[Any, ...]:
    converted = colour.to_srgb(planes, profile) if profile else None
    return planes if converted is None else converted[: len(planes)]  # grey is neutral in sRGB too
