"""Verification inputs: seeded noise in many shapes, and photos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.comparison import Pixels
from export.shapes import VERIFICATION_MIXES, VERIFICATION_SHAPES, Shape, Size
from models.photos import photo_paths, read_photo
from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE

NOISE_SEED = 20240101
LARGEST_PHOTO_SIDE = 512
"""Photos are centre-cropped: PyTorch takes minutes per megapixel for the paper's network on a CPU."""


@dataclass(frozen=True)
class Sample:
    """Named batch of shape (N, 3, H, W)."""

    name: str
    pixels: Pixels


def noise_samples(shapes: tuple[Shape, ...] = VERIFICATION_SHAPES) -> Iterator[Sample]:
    """Yield uniform noise, equal on every call; its high frequencies exercise every operator."""
    for shape in shapes:
        yield Sample("noise", np.random.default_rng(NOISE_SEED).random(shape, dtype=np.float32))


@dataclass(frozen=True)
class Mix:
    """Images of `sizes` in the top left corners of a batch (N, 3, H, W) filled with noise."""

    sizes: tuple[Size, ...]
    pixels: Pixels


def mixes() -> Iterator[Mix]:
    """Yield the verification mixes; without a mask, the noise around an image leaks into it."""
    for padded_shape, sizes in VERIFICATION_MIXES:
        shape = (len(sizes), IMAGE_CHANNELS, *padded_shape)
        yield Mix(sizes, np.random.default_rng(NOISE_SEED).random(shape, dtype=np.float32))


def photo_samples(folder: Path) -> Iterator[Sample]:
    """Yield each photo in `folder`, and a batch of the first and its mirror image; raise `ValueError` if none."""
    for index, path in enumerate(photo_paths(folder)):
        pixels = _as_pixels(_middle(read_photo(path)))
        yield Sample(path.name, pixels)
        if index == 0:
            yield Sample(f"{path.name} + mirror", np.concatenate([pixels, pixels[..., ::-1]]))


def square_photo(path: Path, side: int) -> Sample:
    """Return the photo resized to `side` x `side`."""
    resized = cv2.resize(read_photo(path), (side, side), interpolation=cv2.INTER_CUBIC)
    return Sample(path.name, _as_pixels(np.asarray(resized, np.uint8)))


def _middle(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (min(side, LARGEST_PHOTO_SIDE) // SIZE_MULTIPLE * SIZE_MULTIPLE for side in photo.shape[:2])
    if not width or not height:
        size = f"{photo.shape[1]}x{photo.shape[0]}"
        raise ValueError(f"a photo of {size} is smaller than {SIZE_MULTIPLE}x{SIZE_MULTIPLE}")
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[top : top + height, left : left + width]


def _as_pixels(photo: NDArray[np.uint8]) -> Pixels:
    return np.ascontiguousarray(photo.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255))
