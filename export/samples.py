"""The images that verification runs on: seeded noise of many shapes, and photos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from export.comparison import Pixels
from export.shapes import VERIFICATION_SHAPES, Shape
from models.promptir import SIZE_MULTIPLE

NOISE_SEED = 20240101
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
LARGEST_PHOTO_SIDE = 512
"""Photos are cut to their middle: PyTorch takes minutes for a megapixel of the paper's network on a CPU."""


@dataclass(frozen=True)
class Sample:
    """A named batch of shape (N, 3, H, W)."""

    name: str
    pixels: Pixels


def noise_samples(shapes: tuple[Shape, ...] = VERIFICATION_SHAPES) -> Iterator[Sample]:
    """Uniform noise, the same at every call; its high frequencies reach every operator."""
    for shape in shapes:
        yield Sample("noise", np.random.default_rng(NOISE_SEED).random(shape, dtype=np.float32))


def photo_paths(folder: Path) -> list[Path]:
    """The photos in `folder`, sorted by name; `ValueError` if there is none."""
    if not folder.is_dir():
        raise ValueError(f"photo folder {folder} does not exist")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
    return paths


def photo_samples(folder: Path) -> Iterator[Sample]:
    """Each photo alone, and the first one in a batch with its mirror image."""
    for index, path in enumerate(photo_paths(folder)):
        pixels = _as_pixels(_middle(_open(path)))
        yield Sample(path.name, pixels)
        if index == 0:
            yield Sample(f"{path.name} + mirror", np.concatenate([pixels, pixels[..., ::-1]]))


def square_photo(path: Path, side: int) -> Sample:
    """The photo resized to `side` x `side`, so that one picture serves every size."""
    return Sample(path.name, _as_pixels(_open(path).resize((side, side), Image.Resampling.BICUBIC)))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as photo:
            return photo.convert("RGB")
    except OSError as error:
        raise ValueError(f"cannot read the photo {path}: {error}") from error


def _middle(photo: Image.Image) -> Image.Image:
    width, height = (min(side, LARGEST_PHOTO_SIDE) // SIZE_MULTIPLE * SIZE_MULTIPLE for side in photo.size)
    if not width or not height:
        raise ValueError(f"a photo of {photo.width}x{photo.height} is smaller than {SIZE_MULTIPLE}x{SIZE_MULTIPLE}")
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def _as_pixels(photo: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / np.float32(255))
