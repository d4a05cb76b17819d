"""PatchDataset: clean photos in memory, and batches of degraded and clean patches drawn from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training import degradations
from models.training.degradations import Degrade, Image

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

MINIFICATIONS = (1.0, 0.75, 0.5, 0.35)
"""Scales at which a photo is offered: large smooth photos, made smaller, have the detail of small sharp ones."""

NOISE_LEVEL_ODDS = (0.45, 0.33, 0.22)
"""Light noise is learnt slowest, so it is drawn most often."""

IN_BETWEEN_SIGMA = (0.0, 55.0)
"""Range of the noise levels in between, so that the network knows more than three and leaves a clean photo alone."""

ValidationSets = dict[str, tuple[Image, Image]]
"""The degraded and the clean images, both (N, 3, H, W), by degradation."""


class DatasetError(ValueError):
    """The folder holds no photo that can be used; the message names it."""


@dataclass(frozen=True)
class Mix:
    """How often each degradation is drawn; `ValueError` unless the shares sum to one.

    `jpeg` is the share of all of them that is then saved as a JPEG file.
    """

    noise: float = 0.5
    in_between_noise: float = 0.15
    rain: float = 0.175
    haze: float = 0.175
    jpeg: float = 0.0

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Of noise, noise in between, rain and haze."""
        return self.noise, self.in_between_noise, self.rain, self.haze

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares of a mix are not negative and sum to one, not {self.shares}")
        if not 0 <= self.jpeg <= 1:
            raise ValueError(f"the share of JPEG files is between 0 and 1, not {self.jpeg}")

    def draw(self, rng: np.random.Generator) -> Degrade:
        degrade = self._draw_kind(rng)
        if self.jpeg and rng.random() < self.jpeg:
            quality = int(rng.integers(degradations.JPEG_QUALITY[0], degradations.JPEG_QUALITY[1] + 1))
            return degradations.as_jpeg(degrade, quality, halved_colour=bool(rng.integers(2)))
        return degrade

    def _draw_kind(self, rng: np.random.Generator) -> Degrade:
        kind = rng.choice(4, p=self.shares)
        if kind == 0:
            return degradations.noise(float(rng.choice(degradations.NOISE_LEVELS, p=NOISE_LEVEL_ODDS)))
        if kind == 1:
            return degradations.noise(rng.uniform(*IN_BETWEEN_SIGMA))
        return degradations.rain if kind == 2 else degradations.haze


def photo_paths(folder: Path) -> list[Path]:
    """The photos directly in `folder`, by name; `DatasetError` when there is none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
    return paths


def read_photo(path: Path) -> NDArray[np.uint8]:
    """The pixels of `path`, (H, W, 3) RGB uint8; `DatasetError` when it cannot be read."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DatasetError(f"{path} is not an image that can be read")
    return np.asarray(pixels, np.uint8)


class PatchDataset:
    """Batches of training patches. A batch is a pure function of seed and step, so a resumed run sees the same ones."""

    def __init__(self, photos: Sequence[NDArray[np.uint8]], seed: int, mix: Mix | None = None) -> None:
        self._seed = seed
        self._mix = mix or Mix()
        self._pyramids = [_pyramid(photo) for photo in photos]
        pixels = np.array([photo.shape[0] * photo.shape[1] for photo in photos], np.float64)
        self._odds = pixels / pixels.sum()

    def batch(self, step: int, size: int, patch: int) -> tuple[Image, Image]:
        """The degraded and the clean patches of `step`, both (size, 3, patch, patch) float32 in [0, 1]."""
        rng = np.random.default_rng((self._seed, step))
        pairs = [self._pair(patch, rng) for _ in range(size)]
        degraded, clean = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*pairs, strict=True))
        return np.ascontiguousarray(degraded), np.ascontiguousarray(clean)

    def _pair(self, patch: int, rng: np.random.Generator) -> tuple[Image, Image]:
        clean = self._clean_patch(patch, rng)
        return self._mix.draw(rng)(clean, rng), clean

    def _clean_patch(self, patch: int, rng: np.random.Generator) -> Image:
        levels = self._pyramids[rng.choice(len(self._pyramids), p=self._odds)]
        fitting = [level for level in levels if min(level.shape[:2]) >= patch]
        if not fitting:
            raise DatasetError(f"a photo of {levels[0].shape[1]}x{levels[0].shape[0]} holds no {patch}x{patch} patch")
        photo = fitting[rng.integers(len(fitting))]
        top = rng.integers(photo.shape[0] - patch + 1)
        left = rng.integers(photo.shape[1] - patch + 1)
        crop = photo[top : top + patch, left : left + patch]
        turned = np.rot90(crop, int(rng.integers(4)))
        flipped = turned[:, ::-1] if rng.integers(2) else turned
        return flipped.astype(np.float32) / np.float32(255.0)


def _pyramid(photo: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    height, width = photo.shape[:2]
    levels = [photo]
    for scale in MINIFICATIONS[1:]:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        levels.append(np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8))
    return levels


def validation_set(photos: Sequence[NDArray[np.uint8]], patch: int, seed: int) -> ValidationSets:
    """Degraded and clean centre crops, (N, 3, patch, patch), of each photo by degradation: the same for every run."""
    clean = [_centre_crop(photo, patch) for photo in photos]
    sets = {}
    for kind, degrade in degradations.EVALUATION.items():
        spoiled = [degrade(image, np.random.default_rng((seed, index))) for index, image in enumerate(clean)]
        sets[kind] = (np.stack(spoiled).transpose(0, 3, 1, 2), np.stack(clean).transpose(0, 3, 1, 2))
    return sets


def _centre_crop(photo: NDArray[np.uint8], patch: int) -> Image:
    level = _pyramid(photo)[2]
    top, left = (level.shape[0] - patch) // 2, (level.shape[1] - patch) // 2
    if top < 0 or left < 0:
        raise DatasetError(f"a photo of {photo.shape[1]}x{photo.shape[0]} is too small for {patch}x{patch} validation")
    return level[top : top + patch, left : left + patch].astype(np.float32) / np.float32(255.0)
