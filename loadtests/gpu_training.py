"""Training of the default network at the end of a GPU window: its command line, and the files that it leaves."""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

CHECKPOINT_FILE, WEIGHTS_FILE = "last.pt", "weights.safetensors"
ENDING_S = 10.0
"""Loading before and validation after the training itself."""
VALIDATE_EVERY = 200
DRY_RUN_PHOTOS = 13
"""One photo in twelve is held out."""


def train_command(options: argparse.Namespace, run: Path, seconds: float) -> list[str]:
    """Return the command that trains in the folder `run`; a checkpoint that is given is continued there.

    Without a checkpoint the run is as long as the time that is left. With one its own length counts, and it ends with
    the window: at most VALIDATE_EVERY steps after the last checkpoint are lost.
    """
    command = [sys.executable, "-m", "models.training", "fit", "--output", str(run), "--device", options.device]
    if options.dry_run:
        short = ["--steps", "2", "--stages", "1.0:64x2", "--validate-every", "2", "--variant", options.variant[-1]]
        return [*command, *short, str(_photos_of_noise(run / "photos"))]
    command += ["--validate-every", str(VALIDATE_EVERY), str(options.photos)]
    if options.checkpoint is not None:
        shutil.copy(options.checkpoint, run / CHECKPOINT_FILE)
    given = shlex.split(options.training)
    if "--minutes" not in given and "--steps" not in given:
        given += ["--minutes", f"{max(1.0, seconds - ENDING_S) / 60:.2f}"]
    return [*command, *given]


def training_files(run: Path, output: Path) -> None:
    """Copy the checkpoint and the averaged weights of a run, if it has left any."""
    for name in (CHECKPOINT_FILE, WEIGHTS_FILE):
        if (run / name).exists():
            shutil.copy(run / name, output / name)


def _photos_of_noise(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(DRY_RUN_PHOTOS):
        samples = np.random.default_rng(number).integers(0, 256, (384, 384, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), samples)
    return folder
