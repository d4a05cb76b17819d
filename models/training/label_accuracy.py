"""Accuracy and calibration of the degradation head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.photos import Photo
from models.restoration import SIZE_MULTIPLE, RestorationNetwork
from models.training.degradations.base import Degrade, in_sequence
from models.training.degradations.files import jpeg
from models.training.degradations.noise import noise
from models.training.degradations.weather import fine_rain, hazy, heavy_rain, rain

DECISION = 0.5
BINS = 10


def _both(*steps: Degrade) -> Degrade:
    return lambda clean, rng: in_sequence(clean, steps, rng)


class Case(NamedTuple):
    """Degradation of known strength, and the labels that it should get."""

    degrade: Degrade
    labels: frozenset[str]

    def truth(self, names: Sequence[str]) -> Tensor:
        """Return 1 for each of `names` that is a label of the case, otherwise 0: (1, len(names)) float32."""
        return torch.tensor([[float(name in self.labels) for name in names]])


CASES = {
    "clean": Case(_both(), frozenset()),
    "noise 15": Case(noise(15), frozenset({"noise"})),
    "noise 40": Case(noise(40), frozenset({"noise"})),
    "rain": Case(rain, frozenset({"rain"})),
    "heavy rain": Case(heavy_rain, frozenset({"rain"})),
    "haze 0.8": Case(hazy(0.8), frozenset({"haze"})),
    "haze 1.6": Case(hazy(1.6), frozenset({"haze"})),
    "JPEG 40": Case(jpeg(40), frozenset({"jpeg"})),
    "JPEG 20": Case(jpeg(20), frozenset({"jpeg"})),
    "haze and noise": Case(_both(hazy(1.2), noise(25)), frozenset({"haze", "noise"})),
    "noise and JPEG": Case(_both(noise(25), jpeg(40)), frozenset({"noise", "jpeg"})),
    "rain and JPEG": Case(_both(fine_rain, jpeg(60)), frozenset({"rain", "jpeg"})),
}
"""A picture counts as correctly classified if exactly these labels are predicted."""


@dataclass(frozen=True)
class LabelAccuracy:
    """Accuracy for each case, and the expected calibration error over all labels."""

    by_case: dict[str, float]
    calibration_error: float

    @property
    def mean(self) -> float:
        """Return the mean accuracy over all cases."""
        return sum(self.by_case.values()) / len(self.by_case)


def label_accuracy(network: RestorationNetwork, photos: Sequence[Photo], seed: int) -> LabelAccuracy:
    """Degrade each photo in each way of `CASES` and compare the predicted labels with the true ones."""
    by_case, probabilities, truths = {}, [], []
    for name, case in CASES.items():
        logits = torch.stack(list(_logits(network, photos, case, seed)))
        truth = case.truth(network.degradation_labels).expand_as(logits)
        predicted = torch.sigmoid(logits)
        by_case[name] = float(((predicted > DECISION) == (truth > DECISION)).all(dim=1).float().mean())
        probabilities.append(predicted)
        truths.append(truth)
    return LabelAccuracy(by_case, expected_calibration_error(torch.cat(probabilities), torch.cat(truths)))


def expected_calibration_error(probabilities: Tensor, truths: Tensor) -> float:
    """Average the gap between probability and frequency over ten equal probability bins, weighted by their counts."""
    places = (probabilities * BINS).long().clamp(max=BINS - 1)
    total = 0.0
    for place in range(BINS):
        chosen = places == place
        if chosen.any():
            gap = probabilities[chosen].mean() - truths[chosen].mean()
            total += float(gap.abs() * chosen.sum())
    return total / probabilities.numel()


def degraded(photo: Photo, degrade: Degrade, rng: np.random.Generator) -> Tensor:
    """Degrade a photo (H, W, 3), cut to the size multiple: (1, 3, h, w) float32."""
    height, width = (side // SIZE_MULTIPLE * SIZE_MULTIPLE for side in photo.shape[:2])
    image = degrade(photo[:height, :width].astype(np.float32) / np.float32(255.0), rng)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


@torch.inference_mode()
def _logits(network: RestorationNetwork, photos: Sequence[Photo], case: Case, seed: int) -> Iterator[Tensor]:
    for index, photo in enumerate(photos):
        image = degraded(photo, case.degrade, np.random.default_rng((seed, index)))
        logits = network.outputs(image).degradations
        if logits is None:
            raise ValueError("the network has no degradation head")
        yield logits[0].clone()
