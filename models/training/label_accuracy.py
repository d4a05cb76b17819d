"""Accuracy and calibration of the degradation head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.restoration import SIZE_MULTIPLE, RestorationNetwork
from models.training.degradations.base import Degrade, Image, in_sequence
from models.training.degradations.files import jpeg
from models.training.degradations.noise import noise
from models.training.degradations.weather import hazy, heavy_rain, rain

DECISION = 0.5
BINS = 10
CALIBRATION_STEPS = 60

Photo = NDArray[np.uint8]


def _both(*steps: Degrade) -> Degrade:
    return lambda clean, rng: in_sequence(clean, steps, rng)


CASES: dict[str, tuple[Degrade, frozenset[str]]] = {
    "clean": (_both(), frozenset()),
    "noise 15": (noise(15), frozenset({"noise"})),
    "noise 40": (noise(40), frozenset({"noise"})),
    "rain": (rain, frozenset({"rain"})),
    "heavy rain": (heavy_rain, frozenset({"rain"})),
    "haze 0.8": (hazy(0.8), frozenset({"haze"})),
    "haze 1.6": (hazy(1.6), frozenset({"haze"})),
    "JPEG 40": (jpeg(40), frozenset({"jpeg"})),
    "JPEG 20": (jpeg(20), frozenset({"jpeg"})),
    "haze and noise": (_both(hazy(1.2), noise(25)), frozenset({"haze", "noise"})),
    "noise and JPEG": (_both(noise(25), jpeg(40)), frozenset({"noise", "jpeg"})),
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
    names = network.degradation_labels
    by_case, probabilities, truths = {}, [], []
    for case, (_, expected) in CASES.items():
        logits = torch.stack(list(_logits(network, photos, case, seed)))
        truth = torch.tensor([[float(name in expected) for name in names]]).expand_as(logits)
        predicted = torch.sigmoid(logits)
        by_case[case] = float(((predicted > DECISION) == (truth > DECISION)).all(dim=1).float().mean())
        probabilities.append(predicted)
        truths.append(truth)
    return LabelAccuracy(by_case, expected_calibration_error(torch.cat(probabilities), torch.cat(truths)))


def calibrate(network: RestorationNetwork, photos: Sequence[Photo], seed: int) -> None:
    """Fit a scale and shift for the logits of each label, in place, on degraded `photos` (Platt 1999)."""
    head = network.get_submodule("head.logits")
    if not isinstance(head, nn.Linear):
        raise TypeError(f"the head's last layer is a {type(head).__name__}, not a linear one")
    logits = torch.cat([torch.stack(list(_logits(network, photos, case, seed))) for case in CASES])
    rows = [
        [float(name in expected) for name in network.degradation_labels]
        for _, expected in CASES.values()
        for _ in photos
    ]
    scale, shift = _platt(logits, torch.tensor(rows))
    with torch.no_grad():
        head.weight.mul_(scale[:, None])
        head.bias.mul_(scale).add_(shift)


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


def _platt(logits: Tensor, truths: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.ones(logits.shape[1], requires_grad=True)
    shift = torch.zeros(logits.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=CALIBRATION_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(logits * scale + shift, truths)
        torch.autograd.backward(value)
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return scale.detach(), shift.detach()


def _logits(network: RestorationNetwork, photos: Sequence[Photo], case: str, seed: int) -> Iterator[Tensor]:
    degrade, _ = CASES[case]
    for index, photo in enumerate(photos):
        height, width = (side // SIZE_MULTIPLE * SIZE_MULTIPLE for side in photo.shape[:2])
        clean: Image = photo[:height, :width].astype(np.float32) / np.float32(255.0)
        image = degrade(clean, np.random.default_rng((seed, index)))
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        with torch.inference_mode():
            logits = network.outputs(pixels).degradations
        if logits is None:
            raise ValueError("the network has no degradation head")
        yield logits[0].clone()
