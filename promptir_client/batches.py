"""Batches: several photos submitted as one job, with their results in one archive."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from promptir_client.images import Image, upload_of

ERRORS = "errors.json"

Images = Mapping[str, Image] | Iterable[Image]
"""A mapping from names to images, or a sequence of paths and other images; the latter are named by number."""


@dataclass(frozen=True)
class RestoredBatch:
    """Results of a batch as a zip archive."""

    data: bytes

    @cached_property
    def photos(self) -> dict[str, bytes]:
        """Restored files by name."""
        with self._opened() as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != ERRORS}

    @cached_property
    def errors(self) -> list[dict[str, Any]]:
        """Photos without a result, each with `filename`, `state` and `problem`."""
        with self._opened() as archive:
            listed: list[dict[str, Any]] = json.loads(archive.read(ERRORS)) if ERRORS in archive.namelist() else []
            return listed

    def save(self, path: str | Path) -> None:
        """Write the archive."""
        Path(path).write_bytes(self.data)

    def extract(self, folder: str | Path) -> None:
        """Write the restored files below a folder."""
        with self._opened() as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name != ERRORS])

    def _opened(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(self.data))


def archive_of(images: Images) -> bytes:
    """Pack images into an archive; raises TypeError or ValueError for anything that is not an image, or for none."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, image in _named(images):
            archive.writestr(zipfile.ZipInfo(name), upload_of(image))
        if not archive.filelist:
            raise ValueError("a batch needs at least one image")
    return buffer.getvalue()


def _named(images: Images) -> Iterable[tuple[str, Image]]:
    if isinstance(images, str | bytes):
        raise TypeError("a batch needs several images: pass a list, or a mapping from names to images")
    if isinstance(images, Mapping):
        yield from images.items()
        return
    taken = set[str]()
    for number, image in enumerate(images, 1):
        name = Path(image).name if isinstance(image, str | Path) else f"{number}.png"
        if name in taken:
            name = f"{number}-{name}"
        taken.add(name)
        yield name, image
