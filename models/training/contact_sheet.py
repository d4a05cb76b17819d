"""Contact sheet of real photos before and after restoration, whole and as full-size crops."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.photos import photo_paths, read_photo
from models.training.evaluate import Network, restore

WHOLE_HEIGHT = 260
CROP = 260
GAP = 8
TITLE_HEIGHT = 22
LARGEST_SIDE = 1280
"""Larger photos are downscaled first, because a network's memory grows with them."""

Pixels = NDArray[np.uint8]


def contact_sheet(network: Network, folders: Sequence[Path], output: Path, columns: int = 2) -> int:
    """Restore every photo of `folders` and write `output`: before, after, and a 100 % crop of each.

    Returns the number of photos.
    """
    paths = [path for folder in folders for path in photo_paths(folder)]
    cells = [_cell(path, network) for path in paths]
    width = max(cell.shape[1] for cell in cells)
    rows = [
        np.hstack([_widened(cell, width) for cell in [*cells[start : start + columns], *_blank(cells, start, columns)]])
        for start in range(0, len(cells), columns)
    ]
    cv2.imwrite(str(output), np.vstack(rows)[..., ::-1])
    return len(paths)


def _blank(cells: Sequence[Pixels], start: int, columns: int) -> list[Pixels]:
    missing = start + columns - len(cells)
    return [np.full_like(cells[0], 255)] * max(0, missing)


def _cell(path: Path, network: Network) -> Pixels:
    photo = read_photo(path)
    if max(photo.shape[:2]) > LARGEST_SIDE:
        scale = LARGEST_SIDE / max(photo.shape[:2])
        size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    restored = np.round(restore(network, photo.astype(np.float32) / np.float32(255.0)) * 255).astype(np.uint8)
    row = _with_gaps([_whole(photo), _whole(restored), _detail(photo, photo), _detail(restored, photo)])
    title = np.full((TITLE_HEIGHT, row.shape[1], 3), 255, np.uint8)
    cv2.putText(title, f"{path.parent.name}/{path.name}", (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    return np.vstack([title, row])


def _whole(photo: Pixels) -> Pixels:
    width = max(1, round(photo.shape[1] * WHOLE_HEIGHT / photo.shape[0]))
    return np.asarray(cv2.resize(photo, (width, WHOLE_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _detail(photo: Pixels, by: Pixels) -> Pixels:
    """Crop the part of `photo` where `by` has the most detail."""
    grey = np.asarray(cv2.cvtColor(by, cv2.COLOR_RGB2GRAY), np.float32)
    energy = cv2.boxFilter(np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 2), cv2.CV_32F)), -1, (CROP, CROP))
    height, width = grey.shape
    centre_y, centre_x = np.unravel_index(int(energy.argmax()), energy.shape)
    top = int(np.clip(centre_y - CROP // 2, 0, max(0, height - CROP)))
    left = int(np.clip(centre_x - CROP // 2, 0, max(0, width - CROP)))
    cut = photo[top : top + CROP, left : left + CROP]
    framed = np.full((CROP, CROP, 3), 255, np.uint8)
    framed[: cut.shape[0], : cut.shape[1]] = cut
    return framed


def _with_gaps(pictures: Sequence[Pixels]) -> Pixels:
    gap = np.full((WHOLE_HEIGHT, GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)])


def _widened(cell: Pixels, width: int) -> Pixels:
    padding = ((0, GAP), (0, width - cell.shape[1]), (0, 0))
    return np.pad(cell, padding, constant_values=255)
