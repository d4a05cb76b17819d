"""Evaluation of PSNR and SSIM over folders of images, following the paper's convention.

Both metrics are computed by scikit-image on RGB in [0, 1]; the output is clipped but not rounded.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from models.photos import DatasetError, photo_paths, read_photo
from models.restoration import SIZE_MULTIPLE
from models.training.degradations import Image
from models.training.evaluation_sets import EVALUATION, fast_nl_means

Network = Callable[[torch.Tensor], torch.Tensor]


PSNR_CEILING = 100.0
"""Reported for identical images, whose true PSNR is infinite."""

FLAT_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)
FLAT_SIDES = (64, 256, 1024)


@dataclass(frozen=True)
class Score:
    """Mean PSNR (dB) and SSIM over one set, for the degraded input and the restored output."""

    name: str
    images: int
    input_psnr: float
    psnr: float
    worst_psnr: float
    """PSNR of the image with the worst restoration."""
    input_ssim: float
    ssim: float
    classical_psnr: float | None = None
    """PSNR of OpenCV's fastNlMeans on the same input, if requested."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def restore(network: Network, image: Image) -> Image:
    """Restore one image (H, W, 3) of any size: reflect-pad to the network's size multiple, run, crop, clip."""
    height, width = image.shape[:2]
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    padded = F.pad(tensor, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode="reflect")
    device = next(network.parameters()).device if isinstance(network, torch.nn.Module) else torch.device("cpu")
    restored = network(padded.to(device)).float().cpu()[0, :, :height, :width].clamp(0, 1)
    return np.ascontiguousarray(restored.numpy().transpose(1, 2, 0))


def evaluate_clean(network: Network, folder: Path, seed: int, *, classical: bool = False) -> Iterator[Score]:
    """Yield one score per degradation, applied to the clean images of `folder`; image and `seed` fix the random draws.

    With `classical`, fastNlMeans is measured as well.
    """
    clean = [read_photo(path).astype(np.float32) / np.float32(255.0) for path in photo_paths(folder)]
    for kind, degrade in EVALUATION.items():
        pairs = ((degrade(image, np.random.default_rng((seed, index))), image) for index, image in enumerate(clean))
        yield _score(network, f"{folder.name} {kind}", pairs, len(clean), classical=classical)


@torch.inference_mode()
def worst_flat_error(network: Network) -> float:
    """Return the largest error, in 8-bit levels, on flat grey and coloured fields of several levels and sizes."""
    worst = 0.0
    for side in FLAT_SIDES:
        for index, level in enumerate(FLAT_LEVELS):
            colour = np.array([level, FLAT_LEVELS[-1 - index], 128] if index % 2 else [level] * 3, np.float32) / 255
            field = np.broadcast_to(colour, (side, side, 3)).astype(np.float32)
            worst = max(worst, float(np.abs(restore(network, field) - field).max()) * 255)
    return worst


def evaluate_pairs(network: Network, folder: Path) -> Score:
    """Score the pairs of `folder/input` and `folder/target`.

    An input matches the target of the same name, or of the part of its name before the first `_` (as in RESIDE).
    Raises `DatasetError` if there is none or the sizes differ.
    """
    targets = {path.stem: path for path in photo_paths(folder / "target")}
    inputs = photo_paths(folder / "input")

    def pairs() -> Iterator[tuple[Image, Image]]:
        for path in inputs:
            target = targets.get(path.stem) or targets.get(path.stem.split("_")[0])
            if target is None:
                raise DatasetError(f"{path} has no matching image in {folder / 'target'}")
            degraded, clean = (read_photo(side).astype(np.float32) / np.float32(255.0) for side in (path, target))
            if degraded.shape != clean.shape:
                raise DatasetError(f"{path} has shape {degraded.shape}, but its target {clean.shape}")
            yield degraded, clean

    return _score(network, folder.name, pairs(), len(inputs))


def _score(
    network: Network, name: str, pairs: Iterable[tuple[Image, Image]], count: int, *, classical: bool = False
) -> Score:
    rows, by_classical = [], []
    for degraded, clean in tqdm(pairs, name, total=count, leave=False):
        restored = restore(network, degraded)
        rows.append((_psnr(clean, degraded), _psnr(clean, restored), _ssim(clean, degraded), _ssim(clean, restored)))
        if classical:
            by_classical.append(_psnr(clean, fast_nl_means(degraded)))
    input_psnr, psnr, input_ssim, ssim = (float(value) for value in np.mean(rows, axis=0))
    worst = min(row[1] for row in rows)
    mean_classical = float(np.mean(by_classical)) if classical else None
    return Score(name, len(rows), input_psnr, psnr, worst, input_ssim, ssim, mean_classical)


def _psnr(clean: Image, image: Image) -> float:
    if np.array_equal(clean, image):
        return PSNR_CEILING
    return min(PSNR_CEILING, float(peak_signal_noise_ratio(clean, image, data_range=1.0)))


def _ssim(clean: Image, image: Image) -> float:
    return float(structural_similarity(clean, image, data_range=1.0, channel_axis=2))


def format_table(scores: list[Score]) -> str:
    """Format the scores as a Markdown table."""
    lines = [
        "| set | images | input PSNR / SSIM | restored PSNR / SSIM | gain dB | worst image | fastNlMeans |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {score.name} | {score.images} | {score.input_psnr:.2f} / {score.input_ssim:.3f} "
        f"| {score.psnr:.2f} / {score.ssim:.3f} | {score.psnr - score.input_psnr:+.2f} | {score.worst_psnr:.2f} "
        f"| {'' if score.classical_psnr is None else f'{score.classical_psnr:.2f}'} |"
        for score in scores
    ]
    return "\n".join(lines)
