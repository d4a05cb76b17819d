"""Tests of the Recovery, through the real Worker: runs that do not fit, and runs that fail."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from small_devices import MAX_BATCH, PATIENCE_S, SmallDevice, together, values

from server.backends.base import Pixels
from server.errors import BackendError, DeviceOutOfMemory, UnsupportedSize
from server.scheduling.policy.cost_model import CostModel

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
TILE_PIXELS = 64


def test_each_caller_is_told_the_sizes_that_the_backend_takes_and_nobody_reads_a_traceback(
    serve_batch: Any, make_pixels: MakePixels, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Pixels) -> Pixels:
        raise UnsupportedSize("too small", allowed_sizes=["16x16 to 64x64"])

    device = SmallDevice()
    device.spoil = refuse
    ends = serve_batch(device, [make_pixels(), make_pixels()])
    assert [(type(end), end.extensions) for end in ends] == [
        (UnsupportedSize, {"allowed_sizes": ["16x16 to 64x64"]})
    ] * 2
    assert ends[0] is not ends[1]
    assert "no run takes images of this size" in caplog.messages
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("room", "runs", "ceiling"),
    [(8, [8], None), (7, [8, 4, 4], 4), (4, [8, 4, 4], 4), (3, [8, 4] + [1] * 8, 2), (1, [8, 4] + [1] * 8, 2)],
)
def test_a_batch_that_does_not_fit_runs_in_halves_and_then_one_by_one(
    serve_batch: Any,
    make_pixels: MakePixels,
    registry: CollectorRegistry,
    room: int,
    runs: list[int],
    ceiling: int | None,
) -> None:
    device = SmallDevice(room * TILE_PIXELS)
    ends = serve_batch(device, [make_pixels(value=value) for value in range(8)])
    assert values(ends) == list(range(1, 9))
    assert device.runs == runs
    assert registry.get_sample_value("promptir_run_pixel_ceiling") == (ceiling or 0) * TILE_PIXELS


def test_an_odd_batch_splits_without_losing_an_image(serve_batch: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(3 * TILE_PIXELS)
    ends = serve_batch(device, [make_pixels(value=value) for value in range(5)])
    assert values(ends) == [1, 2, 3, 4, 5]
    assert device.runs == [5, 3, 2]


def test_later_batches_are_no_larger_than_what_fitted(
    build: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(2 * TILE_PIXELS)
    batcher, pool = build(lambda _: device, max_batch=MAX_BATCH)

    async def scenario() -> None:
        await pool.start()
        for _ in range(3):
            ends = await together(device, batcher, [make_pixels(value=value) for value in range(4)])
            assert values(ends) == [1, 2, 3, 4]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert device.runs == [4, 2, 2, 1, 2, 2, 1, 2, 2]
    assert registry.get_sample_value("promptir_out_of_memory_runs_total") == 1
    assert registry.get_sample_value("promptir_run_pixel_ceiling") == 2 * TILE_PIXELS


def test_an_image_that_does_not_fit_alone_is_told_so_and_its_size(serve_batch: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(TILE_PIXELS - 1)
    ends = serve_batch(device, [make_pixels(8, 8), make_pixels(8, 8)])
    for end in ends:
        assert isinstance(end, DeviceOutOfMemory)
        assert "8x8 pixels does not fit" in end.detail
        assert end.extensions == {"image_pixels": TILE_PIXELS}
    assert ends[0] is not ends[1]


def test_a_part_that_fails_otherwise_fails_only_its_own_images(serve_batch: Any, make_pixels: MakePixels) -> None:
    def refuse_four(output: Pixels) -> Pixels:
        if output[0, 0, 0, 0] == 5:
            raise BackendError("a fault of the second half")
        return output

    device = SmallDevice(4 * TILE_PIXELS)
    device.spoil = refuse_four
    ends = serve_batch(device, [make_pixels(value=value) for value in range(8)])
    assert values(ends[:4]) == [1, 2, 3, 4]
    assert [type(end) for end in ends[4:]] == [BackendError] * 4


def test_a_run_that_had_to_be_split_says_nothing_about_the_cost_of_later_ones(
    serve_batch: Any, make_pixels: MakePixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[int, int]] = []
    monkeypatch.setattr(
        CostModel, "observe", lambda model, padded_shape, count, seconds: learnt.append(tuple(padded_shape[:2]))
    )
    serve_batch(SmallDevice(2 * TILE_PIXELS), [make_pixels()] * 4)
    assert (1, 1) in learnt  # the run in front of the batch
    assert (8, 8) not in learnt
