"""Tests of the PlanRuns with two batches begun at a time, on a device that is host memory and does nothing early."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.plan_manifest import PlanManifest, ShapeProfile
from server.backends.base import ModelInput, Pixels
from server.backends.cuda_device import CudaDevice
from server.backends.plan_parts import tensor_bytes
from server.backends.plan_runs import PlanRuns
from server.errors import BackendError, DeviceOutOfMemory

PROFILE = ShapeProfile(min=(1, 8, 8), opt=(2, 16, 16), max=(2, 64, 64))
SLOT_BYTES = 2 * tensor_bytes((1, 3, 8, 8))


@pytest.fixture
def context(new_context: Callable[[], Any]) -> Any:
    return new_context()


@pytest.fixture
def make(cuda: Any, context: Any, plan_manifest: Callable[..., PlanManifest]) -> Callable[..., PlanRuns]:
    def runs(max_bytes: int = 2**20) -> PlanRuns:
        return PlanRuns(plan_manifest(profiles=(PROFILE,)), [context], CudaDevice(cuda), max_bytes, records=True)

    return runs


def photo(*shape: int, seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("widths", [(8,), (8, 16), (8, 8, 16)], ids=["one shape", "two shapes", "mixed"])
def test_each_of_two_begun_batches_gets_its_own_answer_before_and_after_recording(
    make: Any, cuda: Any, widths: tuple[int, ...]
) -> None:
    runs = make()
    batches = [photo(1, 3, 8, widths[seed % len(widths)], seed=seed) for seed in range(20)]
    pending = runs.begin(ModelInput(batches[0]))
    for number, batch in enumerate(batches):
        behind = runs.begin(ModelInput(batches[number + 1])) if number + 1 < len(batches) else None
        np.testing.assert_array_equal(pending.result().pixels, batch + 1)
        pending = behind
    assert cuda.calls.count("cudaGraphLaunch") > 0
    assert len(cuda.on_device) <= 2 * 2 * len(set(widths))
    runs.close()
    assert (cuda.on_device, cuda.pinned, cuda.graphs, cuda.events) == ({}, {}, [], {})


def test_the_graph_of_a_run_holds_no_copy(make: Any, cuda: Any) -> None:
    runs = make()
    for _ in range(4):
        runs.run(ModelInput(photo(1, 3, 8, 8)))
    assert [len(graph) for graph in cuda.graphs] == [1]


def test_copies_and_runs_have_a_stream_each(make: Any, cuda: Any) -> None:
    runs = make()
    pending = [runs.begin(ModelInput(photo(1, 3, 8, 8))), runs.begin(ModelInput(photo(1, 3, 8, 8)))]
    copies_in, works, copies_out = cuda.streams.values()
    cuda.work_off(next(iter(cuda.streams)))  # both input copies continue by themselves
    assert not copies_in
    assert works
    assert copies_out
    for run in pending:
        run.result()


def test_a_batch_in_parts_leaves_the_one_begun_behind_it_alone(make: Any) -> None:
    runs = make()
    large, small = photo(5, 3, 16, 16), photo(2, 3, 16, 16, seed=2)
    first, second = runs.begin(ModelInput(large)), runs.begin(ModelInput(small))
    np.testing.assert_array_equal(first.result().pixels, large + 1)
    np.testing.assert_array_equal(second.result().pixels, small + 1)


@pytest.mark.parametrize("budget", [0, SLOT_BYTES, 2 * SLOT_BYTES - 1])
def test_a_second_batch_begins_only_within_the_budget_and_the_first_one_is_not_harmed(
    make: Any, cuda: Any, budget: int
) -> None:
    runs = make(budget)
    batch = photo(1, 3, 8, 8)
    pending = runs.begin(ModelInput(batch))
    with pytest.raises(DeviceOutOfMemory, match="beside the one that runs"):
        runs.begin(ModelInput(batch))
    np.testing.assert_array_equal(pending.result().pixels, batch + 1)
    np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert cuda.used() <= budget


def test_a_second_batch_that_the_device_has_no_room_for_does_not_harm_the_first(make: Any, cuda: Any) -> None:
    cuda.room = SLOT_BYTES
    runs = make()
    batch, other = photo(1, 3, 8, 8), photo(1, 3, 8, 8, seed=2)
    pending = runs.begin(ModelInput(batch))
    with pytest.raises(DeviceOutOfMemory):
        runs.begin(ModelInput(other))
    np.testing.assert_array_equal(pending.result().pixels, batch + 1)
    np.testing.assert_array_equal(runs.run(ModelInput(other)).pixels, other + 1)


@pytest.mark.parametrize("attribute", ["accepts", "works"])
def test_a_second_batch_that_the_context_refuses_does_not_harm_the_first(
    make: Any, context: Any, cuda: Any, attribute: str
) -> None:
    runs = make()
    batch = photo(1, 3, 8, 8)
    pending = runs.begin(ModelInput(batch))
    setattr(context, attribute, False)
    with pytest.raises(BackendError):
        runs.begin(ModelInput(batch))
    setattr(context, attribute, True)
    np.testing.assert_array_equal(pending.result().pixels, batch + 1)
    np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert len(cuda.on_device) == 4


def test_closing_with_two_begun_gives_everything_back(make: Any, cuda: Any) -> None:
    runs = make()
    for width in (8, 16):
        runs.begin(ModelInput(photo(1, 3, 8, width)))
    runs.close()
    assert (cuda.on_device, cuda.pinned, cuda.events) == ({}, {}, {})
