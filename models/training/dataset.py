"""Training batches of degraded and clean patches, drawn from clean photos in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from models.degradation_head import LABELS
from models.photos import DatasetError, Photo
from models.training.degradations import Degraded, Image
from models.training.degradations.base import rounded_to_8_bits
from models.training.evaluation_sets import VALIDATION
from models.training.mix import Mix
from models.training.pictures import dead_leaves

FULL_SCALE_SHARE = 0.35
"""Share of the patches that are cut at a photo's full resolution."""
SMALLEST_SCALE = 0.3
"""Lower limit of the random scale, at which large smooth photos have the detail of small sharp ones."""
DEAD_LEAVES_SHARE = 0.05
VALIDATION_SCALE = 0.5

ValidationSets = dict[str, tuple[Image, Image]]
"""Degraded and clean images, both (N, 3, H, W), by degradation."""


class Batch(NamedTuple):
    """Patches of one training step."""

    degraded: Image
    """(N, 3, H, W) float32 in [0, 1]."""
    target: Image
    labels: Image
    """(N, len(LABELS)) float32, 1 where the label applies."""


class PatchDataset:
    """Source of training batches; a batch depends only on seed and step, so a resumed run gets the same batches."""

    def __init__(self, photos: Sequence[Photo], seed: int, mix: Mix | None = None) -> None:
        self._seed = seed
        self._mix = mix or Mix()
        self._photos = photos
        pixels = np.array([photo.shape[0] * photo.shape[1] for photo in photos], np.float64)
        self._odds = np.sqrt(pixels) / np.sqrt(pixels).sum()  # between equal weights and weights by pixel count

    def batch(self, step: int, size: int, patch: int) -> Batch:
        """Return `size` patches of `patch` x `patch` pixels for `step`."""
        rng = np.random.default_rng((self._seed, step))
        pairs = [self._pair(patch, rng) for _ in range(size)]
        degraded, target = (
            np.ascontiguousarray(np.stack(side).transpose(0, 3, 1, 2), np.float32)
            for side in ([pair.image for pair in pairs], [pair.target for pair in pairs])
        )
        labels = np.array([[label in pair.labels for label in LABELS] for pair in pairs], np.float32)
        return Batch(degraded, target, labels)

    def _pair(self, patch: int, rng: np.random.Generator) -> Degraded:
        drawn = self._mix.draw(rng)
        whole_scene = rng.random() < drawn.whole_scenes
        if not whole_scene and rng.random() < DEAD_LEAVES_SHARE:
            return drawn.make(rounded_to_8_bits(dead_leaves(patch, rng)), rng)
        return drawn.make(self._clean_patch(patch, whole_scene, rng), rng)

    def _clean_patch(self, patch: int, whole_scene: bool, rng: np.random.Generator) -> Image:
        photo = self._photos[rng.choice(len(self._photos), p=self._odds)]
        shortest = min(photo.shape[:2])
        if shortest < patch:
            raise DatasetError(f"a photo of {photo.shape[1]}x{photo.shape[0]} holds no {patch}x{patch} patch")
        smallest = patch / shortest  # scale at which the patch spans the shorter side
        if not whole_scene:
            smallest = max(smallest, SMALLEST_SCALE)
        full = rng.random() < FULL_SCALE_SHARE and not whole_scene
        scale = 1.0 if full or smallest >= 1 else float(np.exp(rng.uniform(np.log(smallest), 0.0)))
        side = min(shortest, round(patch / scale))
        top = rng.integers(photo.shape[0] - side + 1)
        left = rng.integers(photo.shape[1] - side + 1)
        crop = photo[top : top + side, left : left + side]
        if side != patch:
            crop = np.asarray(cv2.resize(crop, (patch, patch), interpolation=cv2.INTER_AREA), np.uint8)
        # Haze and rain depend on the vertical direction, so whole scenes are not rotated.
        turned = crop if whole_scene else np.rot90(crop, int(rng.integers(4)))
        flipped = turned[:, ::-1] if rng.integers(2) else turned
        return np.ascontiguousarray(flipped, np.float32) / np.float32(255.0)


def validation_set(photos: Sequence[Photo], patch: int, seed: int) -> ValidationSets:
    """Return degraded and clean centre crops (N, 3, patch, patch) by degradation, the same for every run."""
    clean = [middle(photo, patch).astype(np.float32) / np.float32(255.0) for photo in photos]
    sets = {}
    for kind, degrade in VALIDATION.items():
        spoiled = [degrade(image, np.random.default_rng((seed, index))) for index, image in enumerate(clean)]
        sets[kind] = (np.stack(spoiled).transpose(0, 3, 1, 2), np.stack(clean).transpose(0, 3, 1, 2))
    return sets


def middle(photo: Photo, patch: int) -> Photo:
    """Downscale a photo by two and crop its centre to `patch` x `patch`; raise `DatasetError` if it is too small."""
    height, width = (max(1, round(side * VALIDATION_SCALE)) for side in photo.shape[:2])
    level = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (height - patch) // 2, (width - patch) // 2
    if top < 0 or left < 0:
        raise DatasetError(f"a photo of {photo.shape[1]}x{photo.shape[0]} is too small for {patch}x{patch} validation")
    return level[top : top + patch, left : left + patch]
