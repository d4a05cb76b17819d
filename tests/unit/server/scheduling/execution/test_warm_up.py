"""Tests of the warm-up."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory
from server.scheduling.execution.worker import BUDGET_S, COMPILING_S, warm_up
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.queue.tile import PaddedShape

INFO = BackendInfo(ModelSpec("none", "fp32", 8), "timed", "test", max_batch=8)


class TimedBackend:
    """Answers with its input; a run of (N, 3, H, W) takes `seconds(shape)` of the clock, the first one of a shape more.

    `fault` may raise instead.
    """

    def __init__(self, clock: Any, seconds: Callable[[tuple[int, ...]], float], first_s: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.first_s = first_s
        self.fault: Callable[[Pixels], Any] = lambda batch: None
        self.shapes: list[tuple[int, ...]] = []

    def start(self) -> BackendInfo:
        return INFO

    def run(self, batch: ModelInput) -> Result:
        is_new = batch.shape not in self.shapes
        self.shapes.append(batch.shape)
        self.clock.advance(self.seconds(batch.shape) + (self.first_s if is_new else 0.0))
        self.fault(batch.pixels)
        return Result(batch.pixels.copy())

    def stop(self) -> None:
        pass


class Recorded(CostModel):
    """A cost model that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[tuple[int, int, int], float] = {}

    def observe(self, padded_shape: PaddedShape, count: int, seconds: float) -> None:
        self.told[*padded_shape[:2], count] = seconds
        super().observe(padded_shape, count, seconds)


def test_a_quick_device_is_measured_at_several_sizes_and_counts_without_their_first_runs(clock: Any) -> None:
    def seconds(shape: tuple[int, ...]) -> float:
        return 0.006 + 488e-9 * shape[0] * shape[2] * shape[3]

    model = Recorded()
    warm_up(TimedBackend(clock, seconds, first_s=0.05), INFO, model, clock)
    assert model.told[64, 64, 1] == pytest.approx(seconds((1, 3, 64, 64)))
    assert len({(height, width) for height, width, _ in model.told}) >= 3
    assert len({count for _, _, count in model.told}) >= 3
    for (height, width, count), told in model.told.items():
        assert told == pytest.approx(seconds((count, 3, height, width)))


@pytest.mark.parametrize("a_pixel_s", [1e-6, 2e-5, 1e-4, 1e-3])
def test_the_further_points_keep_to_their_budget_however_slow_the_device(clock: Any, a_pixel_s: float) -> None:
    backend = TimedBackend(clock, lambda shape: a_pixel_s * shape[0] * shape[2] * shape[3])
    began = clock()
    warm_up(backend, INFO, Recorded(), clock)
    assert clock() - began <= 2 * a_pixel_s * 64 * 64 + BUDGET_S
    assert backend.shapes[:2] == [(1, 3, 64, 64)] * 2


def test_the_padded_shapes_of_the_settings_run_once_alone_and_once_full(clock: Any) -> None:
    backend, model = TimedBackend(clock, lambda _: 0.002, first_s=0.08), Recorded()
    warm_up(backend, INFO, model, clock, [(PaddedShape(768, 1024), 5), (PaddedShape(1024, 768), 5)])
    for shape in ((768, 1024), (1024, 768)):
        assert model.told[*shape, 1] == model.told[*shape, 5] == pytest.approx(0.002)


def test_padded_shapes_that_would_delay_the_start_of_a_slow_device_are_left_out(clock: Any) -> None:
    backend = TimedBackend(clock, lambda shape: 1e-5 * shape[0] * shape[2] * shape[3])
    warm_up(backend, INFO, Recorded(), clock, [(PaddedShape(768, 1024), 5), (PaddedShape(256, 256), 2)])
    assert [shape for shape in backend.shapes if shape[-1] == 1024] == []
    assert (2, 3, 256, 256) in backend.shapes


def test_default_tiles_are_warm_on_a_device_whose_time_is_mostly_fixed(clock: Any) -> None:
    backend = TimedBackend(clock, lambda shape: 0.004 + 5e-9 * shape[0] * shape[2] * shape[3], first_s=0.05)
    warm_up(backend, INFO, Recorded(), clock)
    assert (1, 3, 512, 512) in backend.shapes


def test_a_runtime_that_compiles_for_each_size_is_not_asked_for_more_than_one(clock: Any) -> None:
    backend = TimedBackend(clock, lambda _: 0.001, first_s=COMPILING_S + 1)
    warm_up(backend, INFO, Recorded(), clock)
    assert set(backend.shapes) == {(1, 3, 64, 64)}


def test_no_count_exceeds_the_largest_batch(clock: Any) -> None:
    backend = TimedBackend(clock, lambda _: 0.001)
    warm_up(backend, replace(INFO, max_batch=1), Recorded(), clock)
    assert {shape[0] for shape in backend.shapes} == {1}


@pytest.mark.parametrize("error", [DeviceOutOfMemory("no room"), BackendError("no profile takes this size")])
def test_a_further_point_that_cannot_run_is_left_out(clock: Any, error: BackendError) -> None:
    backend, model = TimedBackend(clock, lambda _: 0.001), Recorded()

    def fault(batch: Pixels) -> None:
        if batch.shape[-1] != 64:
            raise error

    backend.fault = fault
    warm_up(backend, INFO, model, clock)
    assert {padded_shape for *padded_shape, _ in map(list, model.told) for padded_shape in [tuple(padded_shape)]} == {
        (64, 64)
    }
    assert len(model.told) > 1


def test_a_device_that_is_lost_meanwhile_is_not_served(clock: Any) -> None:
    backend = TimedBackend(clock, lambda _: 0.001)

    def fault(batch: Pixels) -> None:
        if batch.shape[-1] != 64:
            raise BackendLost("gone")

    backend.fault = fault
    with pytest.raises(BackendLost):
        warm_up(backend, INFO, Recorded(), clock)


@pytest.mark.parametrize("answer", [lambda batch: batch[:, :, :8], lambda batch: batch * np.float32(np.nan)])
def test_nonsense_is_not_served(clock: Any, answer: Callable[[Pixels], Pixels]) -> None:
    backend = TimedBackend(clock, lambda _: 0.001)
    backend.run = lambda batch: Result(answer(batch.pixels))  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable, match="warm-up"):
        warm_up(backend, INFO, Recorded(), clock)
