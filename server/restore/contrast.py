"""Local contrast of a photo that ran in tiles: follows that of the whole image, which ran downscaled."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from server.backends.base import Pixels
from server.imaging.assembly import Samples

Matrix = NDArray[np.float32]
RowsOf = Callable[[slice], Pixels]
"""Returns some rows of a photo as (channels, rows, W) pixels."""

SIGMA_CELLS = 4.0
"""Width of the windows in which contrast is compared, in cells of the downscaled image."""
FLAT = 1e-4
"""Added to variances: where they are smaller, below 2.5 levels of 255, there is no contrast to match."""
GAINS = (0.5, 2.0)
"""The least and the largest gain."""
ROWS_AT_ONCE = 64
"""The image is converted to float32 in bands of this many rows."""

FULL = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
"""White level of each sample type."""


def match_contrast(photo: Samples | Pixels, wanted: Pixels, share: float) -> None:
    """Give an assembled photo (3 or 1, H, W), in place, the local contrast of a smaller one: (3, rows, columns).

    The gain is the slope by which `wanted` follows the downscaled photo in a Gaussian window. It is applied to what
    differs from the window's mean, and only a `share` of its difference from 1.
    """
    full = np.float32(FULL[photo.dtype])
    if len(photo) == 1:
        wanted = wanted.mean(axis=0, keepdims=True)
    known = reduced(lambda rows: np.divide(photo[:, rows], full, dtype=np.float32), photo.shape[1], wanted.shape[1:])
    for plane, now, target in zip(photo, known, wanted, strict=True):
        mean, gain = _mean_and_gain(now, target)
        _apply(plane, mean * full, (gain - 1) * np.float32(share))


def reduced(rows_of: RowsOf, height: int, shape: tuple[int, ...]) -> Pixels:
    """Downscale a photo of `height` rows to `shape`, (rows, columns), by area averaging, a band of rows at a time."""
    narrow = [
        [averaged(plane, (rows.stop - rows.start, shape[1])) for plane in rows_of(rows)] for rows in _bands(height)
    ]
    return np.stack([averaged(np.concatenate(bands), shape) for bands in zip(*narrow, strict=True)])


def averaged(plane: Pixels, shape: tuple[int, ...]) -> Matrix:
    """Downscale one plane to `shape` by area averaging."""
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def add(samples: Samples | Pixels, change: Matrix) -> None:
    """Add to part of a photo in place; both have the same shape and full range."""
    for target, plane in zip(samples, change, strict=True):
        if target.dtype == np.float32:
            np.clip(target + plane, 0, 1, out=target)
        else:  # OpenCV adds, rounds and saturates in one pass
            target[:] = cv2.add(target, plane, dtype=cv2.CV_8U if target.dtype == np.uint8 else cv2.CV_16U)


def _mean_and_gain(now: Matrix, wanted: Matrix) -> tuple[Matrix, Matrix]:
    mean = _blurred(now)
    variance = _blurred(now * now) - mean**2
    covariance = _blurred(now * wanted) - mean * _blurred(wanted)
    return mean, np.clip((covariance + FLAT) / (variance + FLAT), *GAINS).astype(np.float32)


def _apply(plane: Samples | Pixels, mean: Matrix, gain: Matrix) -> None:
    height, width = plane.shape
    # Enlarged along the rows at once and along the columns a band at a time: two whole planes would be large.
    wide_mean, wide_gain = (cv2.resize(cells, (width, len(cells))) for cells in (mean, gain))
    for rows in _bands(height):
        place = np.clip((np.arange(rows.start, rows.stop) + 0.5) * (len(mean) / height) - 0.5, 0, len(mean) - 1)
        above = place.astype(np.intp)
        below, weight = np.minimum(above + 1, len(mean) - 1), (place - above)[:, np.newaxis].astype(np.float32)
        around, by = (cells[above] + (cells[below] - cells[above]) * weight for cells in (wide_mean, wide_gain))
        add(plane[np.newaxis, rows], (by * (plane[rows] - around))[np.newaxis])


def _bands(height: int) -> list[slice]:
    return [slice(top, min(height, top + ROWS_AT_ONCE)) for top in range(0, height, ROWS_AT_ONCE)]


def _blurred(plane: Matrix) -> Matrix:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), SIGMA_CELLS), np.float32)
