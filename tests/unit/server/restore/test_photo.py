"""Tests of the photo between its tiles."""

import cv2
import numpy as np
import pytest

from server.formats.codec import Image
from server.formats.output import OutputFormat
from server.imaging import tiling
from server.imaging.report import Findings
from server.imaging.tiling import Grid
from server.restore.options import RestoreOptions
from server.restore.photo import Photo

GRID = tiling.plan(100, 150, 8, tile=64, overlap=16)
WHOLE = tiling.plan(100, 150, 8)
RNG = np.random.default_rng(0)


def image(channels: int = 3, dtype: type = np.uint8) -> Image:
    top = np.iinfo(dtype).max
    planes = tuple(RNG.integers(0, top, (100, 150), dtype, endpoint=True) for _ in range(channels))
    return Image(planes, None)


def restored(photo: Photo, grid: Grid, change: float) -> np.ndarray:
    """What comes out, as planes, if the network adds `change` everywhere."""
    for tile in grid:
        pixels = photo.cut(tile)
        photo.add(tile, pixels, pixels + np.float32(change))
    samples = cv2.imdecode(np.frombuffer(photo.encode(OutputFormat.PNG), np.uint8), cv2.IMREAD_UNCHANGED)
    return samples[None] if samples.ndim == 2 else samples[:, :, ::-1].transpose(2, 0, 1)


@pytest.mark.parametrize("grid", [WHOLE, GRID], ids=["whole", "tiled"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_the_network_left_alone_comes_back_to_the_bit(grid: Grid, channels: int, dtype: type) -> None:
    source = image(channels, dtype)
    np.testing.assert_array_equal(restored(Photo(source, grid, RestoreOptions()), grid, 0.0), source.planes)


def test_values_out_of_range_are_clipped() -> None:
    assert restored(Photo(image(), GRID, RestoreOptions()), GRID, 7.0).min() == 255
    assert restored(Photo(image(), GRID, RestoreOptions()), GRID, -7.0).max() == 0


def test_grey_is_the_mean_of_what_the_network_answers() -> None:
    source = image(1)
    photo = Photo(source, WHOLE, RestoreOptions())
    (tile,) = WHOLE
    pixels = photo.cut(tile)
    tint = np.array([0.2, 0, -0.2], np.float32)[:, None, None]
    photo.add(tile, pixels, pixels + tint)
    samples = cv2.imdecode(np.frombuffer(photo.encode(OutputFormat.PNG), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(samples, source.planes[0])


@pytest.mark.parametrize(("strength", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("grid", [WHOLE, GRID], ids=["whole", "tiled"])
def test_strength_is_the_share_of_the_restored_photo(strength: float, share: float, grid: Grid) -> None:
    grey = Image((np.full((100, 150), 100, np.uint8),) * 3, None)
    answer = restored(Photo(grey, grid, RestoreOptions(strength=strength)), grid, 40 / 255)
    np.testing.assert_array_equal(answer, np.full_like(answer, 100 + share * 40))


def test_a_photo_in_tiles_has_the_noise_that_its_tiles_show_and_the_haze_that_the_frame_shows() -> None:
    grid = tiling.plan(100, 150, 8, tile=64, overlap=16, guided=True)
    photo = Photo(image(), grid, RestoreOptions())
    assert photo.guide is not None
    reduced = photo.guide.reduce(photo.crop)
    photo.guide.take(reduced, np.array([[0.25, 0.75], [0.0, 1.0]], np.float32))
    for tile in grid:
        pixels = photo.cut(tile)
        photo.add(tile, pixels, pixels, np.array([[1.0, 0.0], [1.0, 0.5]], np.float32))
    assert photo.findings(("noise", "haze")) == Findings(((0.25, 0.75),), {"noise": 1.0, "haze": 1.0})


def test_a_report_measures_the_change_and_is_made_only_for_who_asks() -> None:
    grey = Image((np.full((100, 150), 100, np.uint8),) * 3, None)
    photo = Photo(grey, GRID, RestoreOptions(report=True))
    restored(photo, GRID, 51 / 255)
    report = photo.report(Findings())
    assert report is not None
    assert (report.change.mean_abs, report.change.max_abs) == pytest.approx((0.2, 0.2))
    assert report.prompt_weights is None
    assert Photo(grey, GRID, RestoreOptions()).report(Findings()) is None


def test_the_findings_of_a_photo_are_the_mean_of_its_tiles() -> None:
    photo = Photo(image(), GRID, RestoreOptions())
    for number, tile in enumerate(GRID):
        pixels = photo.cut(tile)
        photo.add(tile, pixels, pixels, np.full((3, 5), number, np.float32))
    mean = (len(GRID) - 1) / 2
    assert photo.findings(()).prompt_weights == ((mean,) * 5,) * 3
    assert photo.findings(("noise", "haze")).degradations == {"noise": mean, "haze": mean}
