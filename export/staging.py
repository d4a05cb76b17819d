"""Atomic replacement of an artifact folder."""

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
"""An artifact folder contains exactly one of these."""

logger = logging.getLogger(__name__)


class OutputFolderError(ValueError):
    """Output folder that must not be replaced; the message is one sentence for a user."""


@contextmanager
def staged(folder: Path, model_file: str = MODEL_FILE) -> Iterator[Path]:
    """Yield an empty sibling of `folder` to write into, and replace `folder` with it when the block succeeds.

    Other files of an existing artifact, such as the model card, are kept. If the block raises, `folder` is unchanged
    and the sibling is removed. Raises `OutputFolderError` before anything is written if `folder` is not an artifact,
    or has another kind of model than `model_file`.
    """
    folder = folder.resolve()
    _refuse_other_folders(folder)
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


def _refuse_other_folders(folder: Path) -> None:
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
    retired = staging.with_suffix(".retired")  # a folder cannot be renamed onto a non-empty one
    folder.rename(retired)
    try:
        staging.rename(folder)
    except OSError:
        retired.rename(folder)
        raise
    shutil.rmtree(retired)
