"""Codec: bytes to an Image and back."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import cv2
import numpy as np

from server import formats
from server.backends.base import Pixels
from server.errors import UndecodableImage
from server.formats.base import Header, Planes, Samples
from server.formats.lossy_writer import write_deep, write_lossy, writes_deep
from server.formats.output import ColourPolicy, MetadataPolicy, OutputOptions
from server.formats.output import OutputFormat as OutputFormat
from server.formats.png_writer import write_png
from server.formats.tiff_writer import write_tiff
from server.imaging import colour
from server.imaging.memory import blaming_memory
from server.imaging.metadata import Metadata
from server.imaging.xmp import without_claims

_EIGHT_BITS = np.dtype(np.uint8)
_DEFAULT_OPTIONS = OutputOptions()
EVERYTHING = slice(None)
# Rows that are laid on white together: their float32 copies are a small part of a large photo.
_ROWS_AT_ONCE = 256

_SCALES = {np.dtype(kind): np.float32(1 / np.iinfo(kind).max) for kind in (np.uint8, np.uint16)}

SampleType = np.dtype[np.uint8] | np.dtype[np.uint16]


@dataclass(frozen=True)
class Image:
    """Decoded samples, upright, with what must survive the round trip.

    `planes` are (H, W), red, green and blue, or one of grey, in the source's own samples, as is `alpha`. They stay
    integers: a photo in float32 would take four times the memory, so `crop` converts what a tile needs.
    """

    planes: tuple[Samples, ...]
    alpha: Samples | None
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def is_grey(self) -> bool:
        return len(self.planes) == 1

    @property
    def dtype(self) -> SampleType:
        """The source's sample type, and so the bit depth of a lossless answer."""
        return self.planes[0].dtype

    def crop(self, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Pixels:
        """What the network sees of some rows and columns: (3, H, W) RGB float32 in [0, 1], equal planes if grey."""
        parts = [plane[rows, columns] for plane in self.planes]
        scale = _SCALES[self.dtype]
        pixels = np.empty((3, *parts[0].shape), np.float32)
        for plane, part in zip(pixels, parts * (3 // len(parts)), strict=True):
            np.multiply(part, scale, out=plane, dtype=np.float32)
        return pixels


def silence_decoder_messages() -> None:
    """Tune the libraries for a server, once per process: no threads of their own, no lines about bad uploads."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, header: Header, colours: ColourPolicy = ColourPolicy.KEEP) -> Image:
    """Decode the pixels of a probed image and turn them upright.

    With `ColourPolicy.SRGB` colours of 8 bits are converted from their profile, so that the network sees sRGB; CMYK
    always is. Raises UndecodableImage for truncated or corrupt data, UnsupportedImage for samples that are not read,
    MemoryShort where there is too little for the image.
    """
    with blaming_memory(header.decoded_bytes):
        return _decode(data, header, colours)


def _decode(data: bytes, header: Header, colours: ColourPolicy) -> Image:
    planes = formats.BY_FORMAT[header.format].decode(data, header)
    planes = Planes(
        tuple(_upright(plane, header.orientation) for plane in planes.colour),
        None if planes.alpha is None else _upright(planes.alpha, header.orientation),
    )
    height, width = planes.colour[0].shape
    if (height, width) != (header.height, header.width):
        raise UndecodableImage(
            f"The {header.format} header says {header.width} x {header.height} pixels, the data has {width} x {height}."
        )
    is_grey, dtype = len(planes.colour) == 1, planes.colour[0].dtype
    metadata = header.metadata.upright(header.orientation)
    profile = colour.cut(metadata.icc_profile)
    metadata = replace(
        metadata, icc_profile=profile if colour.fits(profile, colour.GREY if is_grey else colour.RGB) else None
    )
    if colours is ColourPolicy.SRGB and dtype == _EIGHT_BITS:
        planes = planes._replace(colour=_srgb(planes.colour, metadata.profile(is_grey=is_grey)))
        metadata = metadata.without_colour()
    return Image(planes.colour, planes.alpha, metadata)


def keeps_depth(output: OutputFormat, *, has_alpha: bool) -> bool:
    """Whether samples of more than 8 bits are written with more than 8."""
    return output in (OutputFormat.PNG, OutputFormat.TIFF) or writes_deep(output, has_alpha=has_alpha)


def encode(
    image: Image,
    planes: Sequence[Samples],
    output: OutputFormat,
    quality: int,
    options: OutputOptions = _DEFAULT_OPTIONS,
) -> bytes:
    """Encode restored planes, as many and of the type that `image` has, with what else it carries.

    `quality` 1..100 is for the lossy formats. PNG and TIFF keep alpha, grey and 16 bits. JPEG and WebP are 8 bits, and
    AVIF 10 where there are more than 8 and no alpha; JPEG shows transparent parts on white. Raises InvalidRequest if a
    side is longer than the format can hold, and MemoryShort.
    """
    with blaming_memory(sum(plane.nbytes for plane in planes)):
        return _encode(image, planes, output, quality, options)


def _encode(
    image: Image, planes: Sequence[Samples], output: OutputFormat, quality: int, options: OutputOptions
) -> bytes:
    metadata = image.metadata
    if options.metadata is MetadataPolicy.STRIP:
        metadata = metadata.without_notes()
    metadata = replace(metadata, xmp=without_claims(metadata.xmp))
    if output in (OutputFormat.PNG, OutputFormat.TIFF):
        layers = [*planes] if image.alpha is None else [*planes, image.alpha]
        if output is OutputFormat.PNG:
            return write_png(layers, metadata, options.effort)
        return write_tiff(layers, metadata.with_profile(is_grey=len(planes) == 1))
    if output is not OutputFormat.AVIF or b"cICP" not in dict(metadata.colour_chunks):  # AVIF says it in code points
        metadata = metadata.with_profile(is_grey=len(planes) == 1)
    if image.dtype != _EIGHT_BITS and writes_deep(output, has_alpha=image.alpha is not None):
        return write_deep(output, [plane.astype(np.uint16, copy=False) for plane in planes], quality, metadata)
    samples, metadata = _for_lossy(planes, image.alpha, output, metadata)
    return write_lossy(output, samples, quality, metadata)


def _upright(samples: Samples, orientation: int) -> Samples:
    if orientation == 1 and samples.flags.c_contiguous:
        return samples
    # EXIF 2.32, tag 0x0112. Values 5 to 8 are a transposition followed by the mirroring below.
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return _typed(np.ascontiguousarray(samples))


def _srgb(planes: tuple[Any, ...], profile: bytes | None) -> tuple[Any, ...]:
    converted = colour.to_srgb(planes, profile) if profile else None
    return planes if converted is None else converted[: len(planes)]  # what was grey is neutral in sRGB


def _interleaved(planes: Sequence[Samples], alpha: Samples | None) -> Samples:
    # Each (H, W) -> (H, W, C)
    together: Any = [*planes] if alpha is None else [*planes, alpha]
    return _typed(cv2.merge(together).reshape(*together[0].shape, len(together)))


def _for_lossy(
    planes: Sequence[Samples], alpha: Samples | None, output: OutputFormat, metadata: Metadata
) -> tuple[Any, Metadata]:
    # The (H, W, C) samples of 8 bits that the format can hold, and the metadata that fits them.
    if alpha is not None and output is OutputFormat.JPEG:
        planes, alpha = [_eight_bits(_on_white(plane, alpha)) for plane in planes], None
    else:
        planes, alpha = [_eight_bits(plane) for plane in planes], None if alpha is None else _eight_bits(alpha)
    if len(planes) == 3 or output is OutputFormat.JPEG or (output is OutputFormat.AVIF and alpha is None):
        return _interleaved(planes, alpha), metadata
    colours: tuple[Any, ...] = (planes[0],) * 3
    if metadata.icc_profile is not None:  # one of grey, which does not fit a file of three channels
        colours = colour.to_srgb(tuple(cast(Any, planes)), metadata.icc_profile) or colours
    return _interleaved(colours, alpha), metadata.without_colour()


def _on_white(plane: Samples, alpha: Samples) -> Samples:
    white, opaque = np.float32(np.iinfo(plane.dtype).max), np.float32(np.iinfo(alpha.dtype).max)
    shown = np.empty_like(plane)
    for top in range(0, len(plane), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        below = (plane[rows] - white) * (alpha[rows] / opaque)
        shown[rows] = np.rint(white + below)
    return shown


def _eight_bits(plane: Samples) -> Samples:
    # OpenCV scales, rounds and casts in one pass.
    return plane if plane.dtype == _EIGHT_BITS else _typed(cv2.convertScaleAbs(plane, alpha=1 / 257))


def _typed(samples: Any) -> Samples:
    # OpenCV's stubs lose the sample type that the calls above keep.
    return cast(Samples, samples)
