"""Tests of the Pipeline, through a pool of one real Worker: full batches begun while another one runs."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from devices import MODEL
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.errors import BackendError, BackendLost, DeadlineExceeded, DeviceOutOfMemory
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.recovery import ParityCheck
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
MAX_BATCH = 4
RUN_S = 1.0


class DeepDevice:
    """Adds 1; a run takes a second of the clock after the one before. `log` has each begin and each end in order,
    `waits` how many of them were before each wait for the end of a run.

    `faults` are raised once, in the places they are named for; results come only while `released` is set.
    """

    def __init__(self, clock: Any, *, repeats: bool = False) -> None:
        self.clock = clock
        self.repeats = repeats
        self.log: list[str] = []
        self.waits: list[int] = []
        self.faults: dict[str, BaseException] = {}
        self.free_at = 0.0
        self.begun = 0
        self.inside = threading.Event()
        self.released = threading.Event()
        self.released.set()
        self.during: Callable[[], None] = lambda: None

    def start(self) -> BackendInfo:
        model = ModelSpec("none", "fp16", 8)
        return BackendInfo(model, "deep", "test", MAX_BATCH, self.repeats, can_begin_ahead=True)

    def run(self, batch: ModelInput) -> Result:
        if batch.precision == "fp32":
            self.log.append(f"fp32 {batch.shape[0]} beside {self.begun}")
        return Result(batch.pixels + np.float32(1))

    def begin(self, batch: ModelInput) -> Any:
        self.note(f"begin {batch.shape[0]}")
        self.begun += 1
        self.free_at = max(self.free_at, self.clock.now) + RUN_S
        return DeepRun(self, batch.pixels, self.free_at)

    def stop(self) -> None:
        self.log.append("stop")

    def note(self, event: str) -> None:
        """Log an event; raise the fault for its turn of that name, counted from 1, if there is one."""
        self.log.append(event)
        if fault := self.faults.pop(f"{event} #{self.log.count(event)}", None):
            raise fault


@dataclass
class DeepRun:
    device: DeepDevice
    batch: Pixels
    ends_at: float

    def wait(self, seconds: float) -> None:
        """Seconds of the manual clock, which only results advance: over at once."""
        self.device.waits.append(len(self.device.log))

    def result(self) -> Result:
        device = self.device
        device.inside.set()
        assert device.released.wait(PATIENCE_S)
        device.begun -= 1
        device.clock.now = max(device.clock.now, self.ends_at)
        device.during()
        device.note(f"end {len(self.batch)}")
        return Result(self.batch + np.float32(1))


@pytest.fixture
def device(clock: Any) -> DeepDevice:
    return DeepDevice(clock)


@pytest.fixture
def serve(build: Any, clock: Any, play: Play, make_pixels: MakePixels) -> Callable[..., list[Any]]:
    """Let `count` tiles wait behind a run of one other tile, then release the device; return their ends."""

    def serve(
        device: DeepDevice,
        count: int,
        *,
        deadlines: dict[int, float] | None = None,
        check: ParityCheck | None = None,
        meanwhile: Callable[[Batcher, WorkerPool, list[Any]], Any] | None = None,
        max_run_pixels: int = 10**9,
    ) -> list[Any]:
        batcher, pool = build(lambda _: device, clock=clock, check=check, max_run_pixels=max_run_pixels)

        async def scenario() -> list[Any]:
            await pool.start()
            device.released.clear()
            first = asyncio.create_task(batcher.submit(make_pixels(16, 16)))
            assert await asyncio.to_thread(device.inside.wait, PATIENCE_S)
            tiles = [make_pixels(value=value) for value in range(count)]
            due = deadlines or {}
            tiles = [asyncio.create_task(batcher.submit(tile, due.get(n))) for n, tile in enumerate(tiles)]
            await asyncio.sleep(0)
            if meanwhile is not None:
                await meanwhile(batcher, pool, tiles)
            device.released.set()
            ends = await asyncio.gather(*tiles, return_exceptions=True)
            await asyncio.gather(first, return_exceptions=True)
            await pool.stop(PATIENCE_S)
            assert batcher.queue.running == []
            return ends

        return play(scenario())  # type: ignore[no-any-return]

    return serve


def kinds(ends: list[Any]) -> list[type]:
    return [type(end) for end in ends]


def assert_right(ends: list[Any], first: int = 0) -> None:
    assert [float(end.output[0, 0, 0]) for end in ends] == [first + n + 1 for n in range(len(ends))]


def test_a_full_batch_is_begun_at_once_behind_the_one_that_runs_and_another_after_a_wait_for_its_end(
    serve: Any, device: DeepDevice
) -> None:
    ends = serve(device, 11)
    assert_right(ends)
    assert [end.batch_size for end in ends] == [4] * 8 + [3] * 3
    assert device.log == ["begin 1", "end 1", "begin 4", "begin 4", "end 4", "begin 3", "end 4", "end 3", "stop"]
    assert device.waits == [1, 5, 7]  # none before the second full one


def test_at_most_two_are_begun_at_a_time_and_a_batch_is_full_as_well_where_its_pixels_are(
    serve: Any, device: DeepDevice
) -> None:
    assert_right(serve(device, 7, max_run_pixels=2 * 64))
    between = ["begin 2", "end 2"]
    assert device.log == ["begin 1", "end 1", "begin 2", *between * 2, "begin 1", "end 2", "end 1", "stop"]


def test_every_second_of_the_device_counts_once(serve: Any, device: DeepDevice, registry: CollectorRegistry) -> None:
    ends = serve(device, 12)
    assert [end.inference_s for end in ends] == [RUN_S] * 12
    assert [end.queue_s for end in ends] == [RUN_S] * 4 + [2 * RUN_S] * 4 + [3 * RUN_S] * 4
    assert registry.get_sample_value("promptir_device_busy_seconds_total", {"device": "test"}) == 4 * RUN_S
    assert registry.get_sample_value("promptir_batch_size_count", {"model": MODEL}) == 4


@pytest.mark.parametrize("fault", [BackendError("no"), RuntimeError("no"), DeviceOutOfMemory("no")])
def test_a_batch_that_cannot_begin_behind_another_runs_when_that_one_has_ended(
    serve: Any, device: DeepDevice, registry: CollectorRegistry, fault: Exception
) -> None:
    device.faults["begin 4 #2"] = fault
    assert_right(serve(device, 8))
    assert device.log[2:] == ["begin 4", "begin 4", "end 4", "begin 4", "end 4", "stop"]
    assert registry.get_sample_value("promptir_batch_size_count", {"model": MODEL}) == 3
    assert registry.get_sample_value("promptir_out_of_memory_runs_total") == 0


def test_two_that_did_not_fit_together_are_not_begun_together_again(serve: Any, device: DeepDevice) -> None:
    device.faults["begin 4 #2"] = DeviceOutOfMemory("no")
    assert_right(serve(device, 16))
    assert device.log[4:] == ["end 4", "begin 4", "end 4", "begin 4", "end 4", "begin 4", "end 4", "stop"]


@pytest.mark.parametrize(("place", "failed"), [("begin 4 #1", 0), ("end 4 #1", 0), ("end 4 #2", 4)])
def test_a_run_that_fails_fails_its_own_tiles_only(serve: Any, device: DeepDevice, place: str, failed: int) -> None:
    device.faults[place] = BackendError("no")
    ends = serve(device, 8)
    assert kinds(ends[failed : failed + 4]) == [BackendError] * 4
    good = 4 - failed
    assert_right(ends[good : good + 4], good)


def test_a_batch_is_split_once_the_one_behind_it_has_run(
    serve: Any, device: DeepDevice, registry: CollectorRegistry
) -> None:
    device.faults["end 4 #1"] = DeviceOutOfMemory("no")
    assert_right(serve(device, 8))
    halves = ["begin 2", "end 2"] * 2
    assert device.log[2:] == ["begin 4", "begin 4", "end 4", "end 4", *halves, "stop"]
    assert registry.get_sample_value("promptir_device_busy_seconds_total", {"device": "test"}) == 5 * RUN_S


def test_an_image_is_run_in_fp32_once_the_one_behind_it_has_run(serve: Any, clock: Any) -> None:
    device = DeepDevice(clock, repeats=True)
    assert_right(serve(device, 8, check=ParityCheck(every=5)))
    assert [event for event in device.log if event.startswith("fp32")] == ["fp32 1 beside 0"]


@pytest.mark.parametrize("place", ["begin 4 #1", "begin 4 #2", "end 4 #1", "end 4 #2"])
@pytest.mark.parametrize("error", [SystemExit(1), BackendLost("the context is gone")])
def test_when_the_device_is_lost_with_two_begun_their_tiles_end_and_the_others_run_later(
    serve: Any, device: DeepDevice, place: str, error: BaseException
) -> None:
    device.faults[place] = error
    ends = serve(device, 11)
    first, last = {"begin 4 #1": (0, 4), "end 4 #2": (4, 11)}.get(place, (0, 8))
    assert kinds(ends) == [Completion] * first + [BackendLost] * (last - first) + [Completion] * (11 - last)
    assert device.log.count("stop") == (1 if last == 11 else 2)  # where nothing waits, the stop needs no new start


def test_a_fault_of_the_queue_while_a_batch_runs_ends_every_tile(
    serve: Any, device: DeepDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = Batcher.poll

    def poll_and_fail(*arguments: Any, only_full: bool = False) -> Any:
        batch = poll(*arguments, only_full=only_full)
        if only_full and batch is not None:
            monkeypatch.undo()
            raise RuntimeError("a bug")
        return batch

    monkeypatch.setattr(Batcher, "poll", poll_and_fail)
    assert kinds(serve(device, 9)) == [BackendLost] * 8 + [Completion]


def test_a_drain_finishes_both_and_what_waits(serve: Any, device: DeepDevice) -> None:
    async def drain(batcher: Batcher, pool: WorkerPool, tiles: list[Any]) -> None:
        pool.drain()

    assert_right(serve(device, 9, meanwhile=drain))


def test_a_stop_that_runs_out_of_time_ends_the_tiles_of_both(
    build: Any, device: DeepDevice, clock: Any, play: Play, make_pixels: MakePixels
) -> None:
    batcher, pool = build(lambda _: device, clock=clock, max_batch=2)

    async def scenario() -> None:
        await pool.start()
        device.released.clear()
        blocker = asyncio.create_task(batcher.submit(make_pixels()))
        assert await asyncio.to_thread(device.inside.wait, PATIENCE_S)
        tiles = [asyncio.create_task(batcher.submit(make_pixels())) for _ in range(4)]
        await asyncio.sleep(0)
        device.inside.clear()
        device.during = device.released.clear  # only the blocker ends
        device.released.set()
        await blocker
        assert await asyncio.to_thread(device.inside.wait, PATIENCE_S)
        assert device.begun == 2
        await pool.stop(timeout_s=0)
        assert kinds(await asyncio.gather(*tiles, return_exceptions=True)) == [BackendLost] * 4
        device.during = lambda: None
        device.released.set()
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_deadline_that_passes_before_a_run_could_start_holds_for_a_batch_begun_early(
    serve: Any, device: DeepDevice, clock: Any, registry: CollectorRegistry
) -> None:
    at = clock.now
    deadlines = {4: at + 1.5 * RUN_S, 5: at + 2.5 * RUN_S}  # the runs start at 1 and 2, and end at 2 and 3
    ends = serve(device, 8, deadlines=deadlines)
    assert kinds(ends) == [Completion] * 4 + [DeadlineExceeded] + [Completion] * 3
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1


def test_tiles_that_are_cancelled_or_late_do_not_make_a_batch_full(serve: Any, device: DeepDevice, clock: Any) -> None:
    async def leave(batcher: Batcher, pool: WorkerPool, tiles: list[Any]) -> None:
        tiles[6].cancel()
        await asyncio.sleep(0)

    ends = serve(device, 9, deadlines={7: clock.now + 0.5 * RUN_S}, meanwhile=leave)
    assert kinds(ends[6:8]) == [asyncio.CancelledError, DeadlineExceeded]
    assert device.log[2:] == ["begin 4", "begin 3", "end 4", "end 3", "stop"]
