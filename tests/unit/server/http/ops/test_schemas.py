"""Tests of the document that tells every limit."""

import pytest

from server.http.ops.schemas import ServiceLimits
from server.imaging import tiling
from server.settings import BackendSettings, BatchingSettings, LimitSettings, Settings

MULTIPLE = 8


def limits_of(multiple: int | None = MULTIPLE, **limits: int) -> ServiceLimits:
    return ServiceLimits.of(Settings(limits=LimitSettings(**limits)), multiple)


def test_each_setting_that_bounds_a_request_is_told_as_it_is_set() -> None:
    settings = Settings(
        limits=LimitSettings(max_upload_bytes=10**6, max_image_pixels=10**5, max_image_side=999, upload_stall_s=7),
        batching=BatchingSettings(max_batch=3, max_queued_pixels=10**7, max_backlog_ms=1234),
    )
    told = ServiceLimits.of(settings, MULTIPLE)
    assert (told.max_upload_bytes, told.max_image_pixels, told.max_image_side) == (10**6, 10**5, 999)
    assert (told.max_batch, told.max_queued_pixels, told.max_backlog_ms) == (3, 10**7, 1234)
    assert told.upload_stall_s == 7


def test_what_is_left_to_the_service_is_told_as_a_number() -> None:
    settings = Settings()
    told = ServiceLimits.of(settings, MULTIPLE)
    assert told.max_whole_pixels == settings.whole_pixels
    assert told.max_run_pixels == settings.run_pixels(settings.backend.device_names[0])


def test_the_run_of_the_largest_device_counts() -> None:
    settings = Settings(backend=BackendSettings(backend="pytorch", devices="cpu,cuda:0"))
    largest = max(settings.run_pixels("cpu"), settings.run_pixels("cuda:0"))
    assert ServiceLimits.of(settings, MULTIPLE).max_run_pixels == largest


def test_the_tiles_it_tells_can_be_asked_for() -> None:
    tile = limits_of().tile
    for side in (tile.smallest, tile.default, tile.largest):
        grid = tiling.plan(3000, 4000, MULTIPLE, Settings().whole_pixels, side, None)
        assert max(grid.tile_shape) <= side
    assert tile.step is not None
    assert tile.largest % tile.step == tile.smallest % tile.step == 0


def test_before_the_backend_has_started_the_step_is_not_known() -> None:
    assert limits_of(None).tile.step is None


@pytest.mark.parametrize("pixels", [64 * 64, 200 * 200])
def test_the_default_tile_fits_a_device_of_few_pixels(pixels: int) -> None:
    tile = limits_of(max_whole_pixels=pixels).tile
    assert tile.smallest <= tile.default <= tile.largest
    assert tile.default**2 <= pixels
