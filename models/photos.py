"""Listing and reading of photo folders for training and verification."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

Photo = NDArray[np.uint8]
"""(H, W, 3) RGB samples."""


class DatasetError(ValueError):
    """Photos that cannot be used; the message names the file or folder."""


def photo_paths(folder: Path) -> list[Path]:
    """List the photos directly in `folder`, sorted by name; raise `DatasetError` if there are none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
    return paths


def read_photo(path: Path) -> Photo:
    """Read `path` as (H, W, 3) RGB uint8; raise `DatasetError` if it cannot be read."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DatasetError(f"{path} is not an image that can be read")
    return np.asarray(pixels, np.uint8)
