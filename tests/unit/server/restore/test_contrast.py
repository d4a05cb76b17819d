"""Tests of local contrast that follows the downscaled whole image."""

import numpy as np
import pytest

from server.backends.base import Pixels
from server.restore.contrast import FULL, GAINS, ROWS_AT_ONCE, averaged, match_contrast

HEIGHT, WIDTH, SCALE = 4 * ROWS_AT_ONCE + 8, 384, 4
SMALL = HEIGHT // SCALE, WIDTH // SCALE
PERIOD = 32
"""Pixels of one wave: many cells of the downscaled image, within its window of comparison."""


def waves(amplitude: float, channels: int = 3) -> Pixels:
    rows, columns = np.indices((HEIGHT, WIDTH), np.float32) * np.float32(2 * np.pi / PERIOD)
    plane = 0.5 + np.float32(amplitude) * np.sin(rows) * np.sin(columns)
    return np.stack([plane] * channels).astype(np.float32)


def smaller(photo: Pixels) -> Pixels:
    return np.stack([averaged(plane, SMALL) for plane in photo])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("share", "wanted"), [(1.0, 0.15), (0.5, 0.125), (0.0, 0.1)])
def test_the_photo_takes_the_contrast_of_the_smaller_one(
    dtype: type, channels: int, share: float, wanted: float
) -> None:
    full = FULL[np.dtype(dtype)]
    photo = (waves(0.1, channels) * full).astype(dtype)
    match_contrast(photo, smaller(waves(0.15)), share)
    np.testing.assert_allclose(photo / full, waves(wanted, channels), atol=0.01)


@pytest.mark.parametrize(("amplitude", "gain"), [(0.0, GAINS[0]), (0.4, GAINS[1])])
def test_the_gain_is_bounded(amplitude: float, gain: float) -> None:
    photo = waves(0.1)
    match_contrast(photo, smaller(waves(amplitude)), 1.0)
    np.testing.assert_allclose(photo, waves(0.1 * gain), atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_flat_photo_stays_as_it_is(dtype: type) -> None:
    photo = np.full((3, HEIGHT, WIDTH), 77, dtype)
    match_contrast(photo, smaller(waves(0.2)), 1.0)
    assert np.all(photo == 77)


def test_detail_that_the_smaller_photo_cannot_hold_gets_the_gain_of_its_place() -> None:
    checks = np.float32(0.02) * (np.indices((HEIGHT, WIDTH)).sum(axis=0) % 2 * 2 - 1)
    photo, plain = np.asarray(waves(0.1) + checks, np.float32), waves(0.1)
    for each in (photo, plain):
        match_contrast(each, smaller(waves(0.15)), 1.0)
    detail = np.abs(photo - plain)[:, ROWS_AT_ONCE:-ROWS_AT_ONCE, PERIOD:-PERIOD]
    assert detail.mean() == pytest.approx(0.03, rel=0.1)
