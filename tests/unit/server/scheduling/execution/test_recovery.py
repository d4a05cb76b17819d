"""Tests of the Recovery, through the real Worker: runs that do not fit, and runs that must not be answered with."""

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.errors import BackendError, BackendLost, DeviceOutOfMemory, UnsupportedSize, WrongOutput
from server.scheduling.batcher import Batcher
from server.scheduling.execution.recovery import ParityCheck, psnr
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
MAX_BATCH = 8
TILE_PIXELS = 64
# The sides of the warm-up's padded shapes begin here.
WARM_UP_SIDE = 32


class SmallDevice:
    """Adds 1 to what fits `room` pixels; `spoil` stands for half precision: the plain run's answers pass through it."""

    def __init__(self, room: int = 10**9, *, repeats: bool = False) -> None:
        self.room = room
        self.repeats = repeats
        self.spoil: Callable[[Pixels], Pixels] = np.copy
        self.counts: list[int] = []
        self.fp32_values: list[float] = []
        self.fp32_error: Exception | None = None
        self.released = threading.Event()
        self.inside = threading.Event()
        self.released.set()

    def start(self) -> BackendInfo:
        return BackendInfo(ModelSpec("none", "fp16", 8), "small", "test", MAX_BATCH, can_repeat_in_fp32=self.repeats)

    def run(self, batch: ModelInput) -> Result:
        if batch.precision == "fp32":
            return Result(self.run_fp32(batch.pixels))
        if batch.shape[-1] >= WARM_UP_SIDE:
            return Result(batch.pixels.copy())
        self.counts.append(batch.shape[0])
        self.inside.set()
        assert self.released.wait(PATIENCE_S)
        if batch.pixels.size // 3 > self.room:
            raise DeviceOutOfMemory("no room")
        return Result(self.spoil(batch.pixels + np.float32(1)))

    def run_fp32(self, batch: Pixels) -> Pixels:
        if self.fp32_error is not None:
            raise self.fp32_error
        self.fp32_values.append(float(batch[0, 0, 0, 0]))
        return batch + np.float32(1)

    def stop(self) -> None:
        pass

    @property
    def runs(self) -> list[int]:
        """Images in each run, without the run that `together` begins with."""
        return self.counts[1:]


async def together(device: SmallDevice, batcher: Batcher, tiles: list[Pixels]) -> list[Any]:
    """Submit tiles so that they leave the queue as one batch: behind a run of a tiny tile that is held up."""
    device.inside.clear()
    device.released.clear()
    first = asyncio.create_task(batcher.submit(np.zeros((3, 1, 1), np.float32)))
    assert await asyncio.to_thread(device.inside.wait, PATIENCE_S)
    others = [asyncio.create_task(batcher.submit(tile)) for tile in tiles]
    await asyncio.sleep(0)
    device.released.set()
    await asyncio.gather(first, return_exceptions=True)
    return await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def serve(build: Any, play: Play) -> Callable[..., list[Any]]:
    """Start a pool on the device, submit the tiles as one batch, stop."""

    def serve(device: SmallDevice, tiles: list[Pixels], check: ParityCheck | None = None) -> list[Any]:
        batcher, pool = build(lambda _: device, max_batch=MAX_BATCH, check=check)

        async def scenario() -> list[Any]:
            await pool.start()
            ends = await together(device, batcher, tiles)
            assert pool.ready
            await pool.stop(PATIENCE_S)
            return ends

        return play(scenario())  # type: ignore[no-any-return]

    return serve


def values(ends: list[Any]) -> list[float]:
    return [float(end.output[0, 0, 0]) for end in ends]


def test_each_caller_is_told_the_sizes_that_the_backend_takes_and_nobody_reads_a_traceback(
    serve: Any, make_pixels: MakePixels, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Pixels) -> Pixels:
        raise UnsupportedSize("too small", allowed_sizes=["16x16 to 64x64"])

    device = SmallDevice()
    device.spoil = refuse
    ends = serve(device, [make_pixels(), make_pixels()])
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
    serve: Any, make_pixels: MakePixels, registry: CollectorRegistry, room: int, runs: list[int], ceiling: int | None
) -> None:
    device = SmallDevice(room * TILE_PIXELS)
    ends = serve(device, [make_pixels(value=value) for value in range(8)])
    assert values(ends) == list(range(1, 9))
    assert device.runs == runs
    assert registry.get_sample_value("promptir_run_pixel_ceiling") == (ceiling or 0) * TILE_PIXELS


def test_an_odd_batch_splits_without_losing_an_image(serve: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(3 * TILE_PIXELS)
    ends = serve(device, [make_pixels(value=value) for value in range(5)])
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


def test_an_image_that_does_not_fit_alone_is_told_so_and_its_size(serve: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(TILE_PIXELS - 1)
    ends = serve(device, [make_pixels(8, 8), make_pixels(8, 8)])
    for end in ends:
        assert isinstance(end, DeviceOutOfMemory)
        assert "8x8 pixels does not fit" in end.detail
        assert end.extensions == {"image_pixels": TILE_PIXELS}
    assert ends[0] is not ends[1]


def test_a_part_that_fails_otherwise_fails_only_its_own_images(serve: Any, make_pixels: MakePixels) -> None:
    def refuse_four(output: Pixels) -> Pixels:
        if output[0, 0, 0, 0] == 5:
            raise BackendError("a fault of the second half")
        return output

    device = SmallDevice(4 * TILE_PIXELS)
    device.spoil = refuse_four
    ends = serve(device, [make_pixels(value=value) for value in range(8)])
    assert values(ends[:4]) == [1, 2, 3, 4]
    assert [type(end) for end in ends[4:]] == [BackendError] * 4


def test_a_run_that_had_to_be_split_says_nothing_about_the_cost_of_later_ones(
    serve: Any, make_pixels: MakePixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[int, int]] = []
    monkeypatch.setattr(
        CostModel, "observe", lambda model, padded_shape, count, seconds: learnt.append(tuple(padded_shape[:2]))
    )
    serve(SmallDevice(2 * TILE_PIXELS), [make_pixels()] * 4)
    assert (1, 1) in learnt  # the run in front of the batch
    assert (8, 8) not in learnt


def poison(*indices: int) -> Callable[[Pixels], Pixels]:
    def spoil(output: Pixels) -> Pixels:
        for index in indices:
            if index < len(output):
                output[index, 1, 0, 0] = np.inf
        return output

    return spoil


def test_an_output_that_is_not_finite_is_counted_and_run_again_in_fp32(
    serve: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = poison(1, 3)
    ends = serve(device, [make_pixels(value=value) for value in range(4)])
    assert values(ends) == [1, 2, 3, 4]
    assert all(np.isfinite(end.output).all() for end in ends)
    assert device.fp32_values == [1, 3]
    assert [end.batch_size for end in ends] == [4, 1, 4, 1]
    assert registry.get_sample_value("promptir_non_finite_outputs_total") == 2
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "non-finite"}) == 2


@pytest.mark.parametrize("failure", [None, DeviceOutOfMemory("no room"), RuntimeError("secret")])
def test_what_cannot_be_repeated_is_withheld(serve: Any, make_pixels: MakePixels, failure: Exception | None) -> None:
    device = SmallDevice(repeats=failure is not None)
    device.fp32_error = failure
    device.spoil = poison(0)
    ends = serve(device, [make_pixels(), make_pixels()])
    assert [type(end) for end in ends] == [WrongOutput, Completion]
    assert "not finite" in str(ends[0])


def test_a_device_that_is_lost_while_it_repeats_ends_the_tiles_of_its_batch(
    build: Any, play: Play, make_pixels: MakePixels
) -> None:
    device = SmallDevice(repeats=True)
    device.fp32_error = BackendLost("the context is gone")
    batcher, pool = build(lambda _: device)

    async def scenario() -> None:
        await pool.start()
        device.spoil = poison(0)
        with pytest.raises(BackendLost) as caught:
            await batcher.submit(make_pixels())
        assert "context" not in str(caught.value)
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_sampled_answer_under_the_gate_comes_from_fp32(
    serve: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = lambda output: output + np.float32(0.1)  # 20 dB, on every image
    ends = serve(device, [make_pixels(value=value) for value in range(4)], ParityCheck(every=2, gate_db=50))
    sampled = [value for value, end in enumerate(ends) if end.output[0, 0, 0] == value + 1]
    assert len(sampled) == 2
    assert set(sampled) <= set(device.fp32_values)
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "below-gate"}) >= 2
    assert registry.get_sample_value("promptir_parity_db_bucket", {"le": "30.0"}) == len(device.fp32_values)


def test_a_sampled_answer_above_the_gate_is_sent_as_it_is(
    serve: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = lambda output: output + np.float32(1e-3)  # 60 dB
    ends = serve(device, [make_pixels(value=1)] * 2, ParityCheck(every=1, gate_db=50))
    assert values(ends) == pytest.approx([2.001, 2.001])
    assert [end.batch_size for end in ends] == [2, 2]
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "below-gate"}) == 0
    assert registry.get_sample_value("promptir_parity_db_count") == 3


def test_a_check_that_fails_does_not_cost_the_answer(serve: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(repeats=True)
    device.fp32_error = DeviceOutOfMemory("FP32 takes twice the memory")
    ends = serve(device, [make_pixels(value=1)], ParityCheck(every=1))
    assert values(ends) == [2]


def test_a_check_that_the_backend_cannot_make_is_said_at_the_start(
    serve: Any, make_pixels: MakePixels, caplog: pytest.LogCaptureFixture
) -> None:
    ends = serve(SmallDevice(repeats=False), [make_pixels(value=1)], ParityCheck(every=1))
    assert values(ends) == [2]
    assert "not compared with FP32" in caplog.text


def test_nothing_is_checked_unless_asked(serve: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(repeats=True)
    serve(device, [make_pixels()] * 4)
    assert device.fp32_values == []


def test_psnr_is_that_of_a_range_of_one() -> None:
    reference = np.zeros((3, 8, 8), np.float32)
    assert psnr(reference + np.float32(0.01), reference) == pytest.approx(40)
    assert psnr(reference, reference) == math.inf
