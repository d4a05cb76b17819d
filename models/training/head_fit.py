"""Fitting of the degradation head alone, to the features of a network whose body is finished."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.degradation_head import LABELS, DegradationHead
from models.photos import Photo
from models.restoration import RestorationNetwork
from models.training.dataset import PatchDataset
from models.training.label_accuracy import CASES, degraded
from models.training.mix import Mix

PATCHES = ((64, 4), (128, 8), (256, 4))
"""(side, count) of the batches, drawn in turn: photos of all sizes are to be judged."""
MIX = Mix.adjusted({"clean": 0.25, "flat": 0.25, "low_contrast": 0.05, "soft": 0.08})
"""More pictures to leave alone than in training, because the head decides what is left alone."""
FLAT_SHAPES = (
    *((64, 64), (128, 128), (64, 64), (256, 256), (96, 64), (16, 16), (32, 32), (48, 48)),
    *((8, 512), (512, 8), (16, 512), (24, 24), (8, 8)),
)
"""(height, width) of the pictures of one colour, drawn in turn.

Without small and narrow ones, these were taken for rain or haze.
"""
GREY_SHARE, EXTREME_SHARE = 0.6, 0.2
SHARES = (3, 3, 1)
"""Relative numbers of patches, cases and pictures of one colour."""
EPOCHS = 150
MINIBATCH = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.03
SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Examples:
    """Inputs (N, C) of the head with their labels (N, labels)."""

    features: Tensor
    labels: Tensor


def draw_examples(
    network: RestorationNetwork,
    photos: Sequence[Photo],
    scenes: Sequence[Photo],
    count: int,
    seed: int,
    on_example: Callable[[int], object],
) -> Examples:
    """Return the features of at least `count` pictures, degraded or clean.

    They are patches of `photos`, `CASES` of `scenes`, and pictures of one colour, see `SHARES`. `on_example` is called
    with the number of examples added.
    """
    sources = _patches(network, PatchDataset(photos, seed, MIX)), _cases(network, scenes, seed), _flats(network, seed)
    features: list[Tensor] = []
    labels: list[Tensor] = []
    done = [0, 0, 0]
    while sum(done) < count:
        turn = min(range(len(sources)), key=lambda source: done[source] / SHARES[source])
        found, truth = next(sources[turn])
        features.append(found)
        labels.append(truth)
        done[turn] += len(found)
        on_example(len(found))
    return Examples(torch.cat(features), torch.cat(labels))


def fit_head(network: RestorationNetwork, examples: Examples, seed: int) -> None:
    """Train the head of `network` in place from random weights on `examples`; features are standardised meanwhile."""
    head = network.get_submodule("head")
    if not isinstance(head, DegradationHead):
        raise TypeError(f"the head is a {type(head).__name__}, not a DegradationHead")
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = examples.features.mean(dim=0), examples.features.std(dim=0).clamp_min(SMALLEST_DEVIATION)
    features = (examples.features - mean) / deviation
    for layer in (head.hidden, head.logits):
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.split(torch.randperm(len(features), generator=generator), MINIBATCH):
            optimiser.zero_grad()
            loss = F.binary_cross_entropy_with_logits(head(features[chosen]), examples.labels[chosen])
            torch.autograd.backward(loss)
            optimiser.step()
        schedule.step()
    with torch.no_grad():  # fold the standardisation into the first layer
        head.hidden.weight.div_(deviation)
        head.hidden.bias.sub_(head.hidden.weight @ mean)


def raise_log_odds(network: RestorationNetwork, shifts: Mapping[str, float]) -> None:
    """Add `shifts`, by label, to the logits of the head of `network` in place."""
    with torch.no_grad():
        network.get_parameter("head.logits.bias").add_(torch.tensor([shifts.get(label, 0.0) for label in LABELS]))


def _patches(network: RestorationNetwork, dataset: PatchDataset) -> Iterator[tuple[Tensor, Tensor]]:
    step = 0
    while True:
        side, size = PATCHES[step % len(PATCHES)]
        batch = dataset.batch(step, size, side)
        yield _features(network, torch.from_numpy(batch.degraded)), torch.from_numpy(batch.labels)
        step += 1


def _cases(network: RestorationNetwork, scenes: Sequence[Photo], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    while True:
        for case in CASES.values():
            picture = degraded(scenes[int(rng.integers(len(scenes)))], case.degrade, rng)
            yield _features(network, picture), case.truth(network.degradation_labels)


def _flats(network: RestorationNetwork, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    clean = torch.zeros(1, len(network.degradation_labels))
    for height, width in itertools.cycle(FLAT_SHAPES):
        extreme = rng.random() < EXTREME_SHARE
        grey = int(rng.choice([0, 1, 254, 255])) if extreme else int(rng.integers(256))
        colour = [grey] * 3 if rng.random() < GREY_SHARE else rng.integers(256, size=3).tolist()
        picture = torch.tensor(colour, dtype=torch.float32)[None, :, None, None] / 255.0
        yield _features(network, picture.expand(1, 3, height, width).contiguous()), clean


@torch.inference_mode()
def _features(network: RestorationNetwork, images: Tensor) -> Tensor:
    return network.head_features(images).clone()
