"""Codec: bytes to an Image and back."""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from server.backends.base import Pixels
from server.errors import InvalidRequest, UndecodableImage, UnsupportedImage
from server.imaging.header import Header
from server.imaging.png_writer import write_png

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_WHITE = np.float32(1)
_LONGEST_SIDE = {"jpeg": 65_535, "webp": 16_383}  # of the formats themselves


class OutputFormat(StrEnum):
    """A kind of file that restored images are written as."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """The registered media type."""
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        """The usual file name suffix, with its dot."""
        return ".jpg" if self is OutputFormat.JPEG else f".{self.value}"


@dataclass(frozen=True)
class Image:
    """Decoded pixels, upright, with what must survive the round trip.

    `pixels` is (3, H, W) RGB float32 in [0, 1], three equal planes if the source is grey; `alpha` is (H, W) in the
    source's own samples. `dtype` is the source's sample type and so the bit depth of a lossless answer.
    """

    pixels: Pixels
    alpha: Samples | None
    is_grey: bool
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]
    icc_profile: bytes | None


def quieten() -> None:
    """Tune the libraries for a server, once per process: no threads of their own, no lines about bad uploads."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes, header: Header) -> Image:
    """Decode the pixels of a probed image and turn them upright.

    Raises UndecodableImage for truncated or corrupt data, UnsupportedImage for samples that are not 8 or 16 bits.
    """
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UndecodableImage(f"The {header.format} is damaged and cannot be decoded.") from error
    if samples is None:
        raise UndecodableImage(f"The {header.format} is cut off or damaged and cannot be decoded.")
    if samples.dtype not in (np.uint8, np.uint16):
        raise UnsupportedImage(f"Samples of type {samples.dtype} are not read: use 8 or 16 bits per channel.")
    if header.format == "TIFF" and header.has_alpha and samples.dtype == np.uint8:
        samples = _straight_alpha_tiff(data)
    samples = _upright(samples, header.orientation)
    if samples.shape[:2] != (header.height, header.width):
        raise UndecodableImage(
            f"The {header.format} header says {header.width} x {header.height} pixels, the data holds "
            f"{samples.shape[1]} x {samples.shape[0]}."
        )
    has_alpha = header.has_alpha and samples.ndim == 3 and samples.shape[2] == 4
    return Image(
        pixels=_to_planes(samples),
        alpha=np.ascontiguousarray(samples[:, :, 3]) if has_alpha else None,
        is_grey=header.is_grey,
        dtype=samples.dtype,
        icc_profile=header.icc_profile,
    )


def encode(image: Image, pixels: Pixels, output: OutputFormat, quality: int) -> bytes:
    """Encode restored (3, H, W) pixels in [0, 1] with what `image` carries; `quality` 1..100 is for JPEG and WebP.

    PNG keeps alpha, grey, 16 bits and the colour profile. JPEG and WebP are 8 bits; JPEG shows transparent parts on
    white. Values out of range are clipped. Raises InvalidRequest if a side is longer than the format can hold.
    """
    height, width = pixels.shape[1:]
    longest = _LONGEST_SIDE.get(output.value)
    if longest is not None and max(height, width) > longest:
        raise InvalidRequest(f"{output.name} holds at most {longest} pixels a side: ask for PNG.")
    if output is OutputFormat.PNG:
        return write_png(_png_samples(image, pixels), image.icc_profile)
    if output is OutputFormat.JPEG:
        if image.alpha is not None:
            opacity: Pixels = np.multiply(image.alpha, 1 / np.iinfo(image.alpha.dtype).max, dtype=np.float32)
            pixels = _WHITE + (pixels - _WHITE) * opacity
        samples = _quantise(_grey(pixels) if image.is_grey else pixels, np.dtype(np.uint8))
        return _encode_with_opencv(".jpg", samples, cv2.IMWRITE_JPEG_QUALITY, quality)
    samples = _quantise(pixels, np.dtype(np.uint8))
    if image.alpha is not None:
        alpha = image.alpha if image.alpha.dtype == np.uint8 else (image.alpha >> 8).astype(np.uint8)
        samples = _typed(np.dstack((samples, alpha)))
    return _encode_with_opencv(".webp", samples, cv2.IMWRITE_WEBP_QUALITY, quality)


def _straight_alpha_tiff(data: bytes) -> Samples:
    # OpenCV answers 8-bit TIFF with the colours multiplied by the alpha, which loses them where it is small.
    try:
        rgba = np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(data)).convert("RGBA"))
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The TIFF is damaged and cannot be decoded.") from error
    return _typed(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))


def _upright(samples: Samples, orientation: int) -> Samples:
    # EXIF 2.32, tag 0x0112. Values 5 to 8 are a transposition followed by the mirroring below.
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _to_planes(samples: Samples) -> Pixels:
    # (H, W) grey or (H, W, 3 or 4) BGR -> (3, H, W) RGB
    scale = np.float32(1 / np.iinfo(samples.dtype).max)
    sources = [samples] * 3 if samples.ndim == 2 else cv2.split(samples)[2::-1]
    planes = np.empty((3, *samples.shape[:2]), np.float32)
    for plane, source in zip(planes, sources, strict=True):
        np.multiply(source, scale, out=plane, dtype=np.float32)
    return planes


def _grey(pixels: Pixels) -> Pixels:
    # The network answers three planes that differ a little: their mean carries the least noise.
    mean: Pixels = pixels.mean(axis=0, keepdims=True, dtype=np.float32)
    return mean


def _quantise(pixels: Pixels, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Samples:
    # (C, H, W) in [0, 1] -> (H, W, C). addWeighted is OpenCV's one-pass scale, round and saturate, several times
    # faster than numpy's clip, multiply, rint and cast.
    depth, full = (cv2.CV_8U, 255.0) if dtype == np.uint8 else (cv2.CV_16U, 65535.0)
    planes = [cv2.addWeighted(plane, full, plane, 0.0, 0.0, dtype=depth) for plane in pixels]
    return _typed(cv2.merge(planes).reshape(*pixels.shape[1:], len(planes)))


def _png_samples(image: Image, pixels: Pixels) -> Samples:
    samples = _quantise(_grey(pixels) if image.is_grey else pixels, image.dtype)
    return samples if image.alpha is None else _typed(np.dstack((samples, image.alpha)))


def _typed(samples: Any) -> Samples:
    # OpenCV's and numpy's stubs lose the sample type that the calls above keep.
    return cast(Samples, samples)


def _encode_with_opencv(suffix: str, rgb: Samples, quality_flag: int, quality: int) -> bytes:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[rgb.shape[2]]
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(rgb[:, :, order]), [quality_flag, quality])
    if not done:
        raise RuntimeError(f"OpenCV did not encode {rgb.shape} as {suffix}")
    return encoded.tobytes()
