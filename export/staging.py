"""An artifact folder that appears whole or not at all."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.artifact import MANIFEST_FILE, MODEL_FILE
from models.plan_manifest import PLAN_FILE

MODEL_CARD_FILE = "MODEL_CARD.md"
MODEL_FILES = frozenset({MODEL_FILE, PLAN_FILE})
"""What an artifact folder holds exactly one of."""

logger = logging.getLogger(__name__)


class OutputFolderError(ValueError):
    """An output that must not be replaced; the message is one sentence for a user."""


@contextmanager
def staged(folder: Path, model_file: str = MODEL_FILE) -> Iterator[Path]:
    """Yield an empty sibling of `folder` to write into; it takes the place of `folder` when the block ends well.

    What an earlier artifact held beside its exported files, such as the model card, stays. If the block raises,
    `folder` is untouched and the sibling is gone. `OutputFolderError` before anything is written if `folder` is
    something else that is in use: no artifact, or one whose model is not a `model_file`.
    """
    folder = folder.resolve()
    _refuse_what_is_no_artifact(folder)
    _refuse_another_kind(folder, model_file)
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir()
    try:
        yield staging
        _carry_over(folder, staging)
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_what_is_no_artifact(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputFolderError(f"{folder} is a file; name a folder for the artifact")
    names = {entry.name for entry in folder.iterdir()}
    if names and not names & {MANIFEST_FILE, MODEL_CARD_FILE}:
        raise OutputFolderError(f"{folder} holds other files and no {MANIFEST_FILE}; name a new or empty folder")


def _refuse_another_kind(folder: Path, model_file: str) -> None:
    for other in sorted(MODEL_FILES - {model_file}):
        if (folder / other).exists():
            raise OutputFolderError(f"{folder} holds {other}, which {model_file} must not replace; name another folder")


def _carry_over(folder: Path, staging: Path) -> None:
    if not folder.exists():
        return
    for entry in sorted(folder.iterdir()):
        if entry.name in MODEL_FILES or entry.name == MANIFEST_FILE:
            continue
        if entry.is_dir():
            shutil.copytree(entry, staging / entry.name)
        else:
            shutil.copy2(entry, staging / entry.name)
        logger.info("kept %s; check that it still describes the model", entry.name)


def _replace(folder: Path, staging: Path) -> None:
    if not folder.exists():
        staging.rename(folder)
        return
    retired = staging.with_suffix(".retired")  # a folder cannot be renamed onto a full one
    folder.rename(retired)
    try:
        staging.rename(folder)
    except OSError:
        retired.rename(folder)
        raise
    shutil.rmtree(retired)
