"""Prompt weights: what the three prompts answer to known degradations, and whether that tells them apart.

    python loadtests/prompt_weights.py --photos FOLDER --output weights.json
    python loadtests/prompt_weights.py --table weights.json

Each photo is cut to SIDE x SIDE in its middle and spoiled as in training. A degradation is told by the nearest mean of
the weights, scaled by their spread, over all other photos.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact import DEFAULT_ARTIFACT, Manifest
from models.checkpoint import load_network
from models.promptir import PromptIR, PromptIRConfig
from models.training.dataset import photo_paths, read_photo
from models.training.degradations import EVALUATION, Image

Weights = NDArray[np.float64]

CLEAN = "clean"
SIDE = 256
SEED = 11
LEVELS = ("coarse", "middle", "fine")
FAMILIES = {CLEAN: CLEAN, "noise15": "noise", "noise25": "noise", "noise50": "noise", "rain": "rain", "haze": "haze"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path("weights.json"))
    parser.add_argument("--table", type=Path, help="print the tables of this file and stop")
    options = parser.parse_args()
    if options.table:
        print("\n".join(tables(json.loads(options.table.read_text()))))
        return 0
    torch.set_num_threads(1)
    found = {kind: [] for kind in FAMILIES}
    variant = PromptIRConfig.named(Manifest.load(DEFAULT_ARTIFACT).variant)
    network = load_network(DEFAULT_ARTIFACT / "weights.safetensors", variant)
    for index, path in enumerate(photo_paths(options.photos)[: options.count]):
        clean = middle(read_photo(path)).astype(np.float32) / np.float32(255)
        for kind, weights in found.items():
            spoiled = clean if kind == CLEAN else EVALUATION[kind](clean, np.random.default_rng((SEED, index)))
            weights.append(prompt_weights(network, spoiled))
    options.output.write_text(json.dumps(found))
    return 0


def middle(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (photo.shape[0] - SIDE) // 2, (photo.shape[1] - SIDE) // 2
    return photo[top : top + SIDE, left : left + SIDE]


@torch.inference_mode()
def prompt_weights(network: PromptIR, image: Image) -> list[float]:
    """Fifteen weights: the components of the coarse prompt, the middle and the fine one."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return [round(weight, 6) for weight in network.weighed(pixels)[1].flatten().tolist()]


def tables(found: dict[str, list[list[float]]]) -> Iterator[str]:
    kinds = list(found)
    weights = np.array([found[kind] for kind in kinds])  # kind, photo, weight
    yield "| degradation | " + " | ".join(LEVELS) + " |"
    yield "|---|---|---|---|"
    for kind, of_kind in zip(kinds, weights, strict=True):
        levels = zip(of_kind.mean(0).reshape(3, -1), of_kind.std(0).reshape(3, -1), strict=True)
        cells = (" ".join(f"{m:.2f}±{s:.2f}" for m, s in zip(*level, strict=True)) for level in levels)
        yield f"| {kind} | {' | '.join(cells)} |"
    told = nearest_means(weights)
    yield f"\n{np.mean(told == np.arange(len(kinds))[:, None]):.0%} of {told.size} told as one of {len(kinds)}"
    families = np.array([FAMILIES[kind] for kind in kinds])
    yield f"{np.mean(families[told] == families[:, None]):.0%} told as clean, noise, rain or haze\n"
    yield f"| it is | {' | '.join(f'told as {kind}' for kind in kinds)} |"
    yield "|---|" + "---|" * len(kinds)
    for kind, row in zip(kinds, told, strict=True):
        yield f"| {kind} | {' | '.join(str(int(np.sum(row == other))) for other in range(len(kinds)))} |"


def nearest_means(weights: Weights) -> NDArray[np.intp]:
    """For each kind and photo the kind that its weights are nearest to, by the other photos."""
    told = np.empty(weights.shape[:2], np.intp)
    for photo in range(weights.shape[1]):
        others = np.delete(weights, photo, axis=1)
        means = others.mean(axis=1)
        spread = (others - means[:, None]).std(axis=(0, 1)) + 1e-9
        distances = np.square((weights[:, photo, None] - means) / spread).sum(axis=2)
        told[:, photo] = distances.argmin(axis=1)
    return told


if __name__ == "__main__":
    sys.exit(main())
