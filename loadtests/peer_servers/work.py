"""Work of every peer: decode an image, run a batch on the simulated device, encode the result."""

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference_batcher import decode as decode
from reference_batcher import encode, run_device

BASE_MS, MS_PER_MEGAPIXEL = float(os.environ["PEER_BASE_MS"]), float(os.environ["PEER_MS_PER_MEGAPIXEL"])
MAX_BATCH, PORT = int(os.environ["PEER_MAX_BATCH"]), int(os.environ["PEER_PORT"])


def run(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run (3, H, W) images, one batch per shape, and return their results in order."""
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        shapes[image.shape].append(index)
    results: list[np.ndarray] = list(images)
    for indices in shapes.values():
        outputs = run_device([images[index] for index in indices], BASE_MS, MS_PER_MEGAPIXEL)
        for index, output in zip(indices, outputs, strict=True):
            results[index] = output
    return results


def png(output: np.ndarray) -> bytes:
    """Encode a result."""
    return encode(output, ".png")
