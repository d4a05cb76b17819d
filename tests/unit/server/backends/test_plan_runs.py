"""Tests of the PlanRuns, on a device that is host memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.plan_manifest import PlanManifest, ShapeOutsideProfiles, ShapeProfile
from server.backends.base import ModelInput, Pixels
from server.backends.cuda_device import CudaDevice
from server.backends.plan_parts import counts, tensor_bytes
from server.backends.plan_runs import PlanRuns
from server.errors import BackendError, BackendLost, DeviceOutOfMemory, UnsupportedSize

SMALL = ShapeProfile(min=(1, 8, 8), opt=(4, 16, 16), max=(4, 32, 32))
LARGE = ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(1, 128, 128))
PAIRS = ShapeProfile(min=(2, 8, 8), opt=(2, 8, 8), max=(2, 64, 64))

SMALL_BUDGET = 2 * tensor_bytes((1, 3, 8, 16))

MakeRuns = Callable[..., PlanRuns]


@pytest.fixture
def contexts(new_context: Callable[[], Any]) -> list[Any]:
    return [new_context(), new_context()]


@pytest.fixture
def make(cuda: Any, contexts: list[Any], plan_manifest: Callable[..., PlanManifest]) -> MakeRuns:
    def runs(max_bytes: int = 2**20, *, records: bool = True) -> PlanRuns:
        manifest = plan_manifest(profiles=(SMALL, LARGE))
        return PlanRuns(manifest, contexts, CudaDevice(cuda), max_bytes, records=records)

    return runs


def photo(*shape: int, seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize(
    ("profiles", "batch", "expected"),
    [
        ((SMALL, LARGE), (4, 16, 16), [4]),
        ((SMALL, LARGE), (7, 32, 32), [4, 3]),
        ((SMALL, LARGE), (3, 64, 32), [1, 1, 1]),
        ((LARGE, PAIRS), (5, 64, 64), [2, 2, 1]),
        ((PAIRS,), (4, 8, 8), [2, 2]),
    ],
)
def test_a_batch_is_cut_into_as_few_runs_as_the_profiles_allow(
    profiles: tuple[ShapeProfile, ...], batch: tuple[int, int, int], expected: list[int]
) -> None:
    assert counts(profiles, *batch) == expected


@pytest.mark.parametrize(
    ("profiles", "batch", "words"),
    [
        ((SMALL, LARGE), (1, 136, 8), "takes 1 images of 136x8 .*1x8x8:1x64x64:1x128x128"),
        ((PAIRS,), (3, 8, 8), "at most 2 together"),
    ],
)
def test_a_size_outside_every_profile_is_told_with_what_would_fit(
    profiles: tuple[ShapeProfile, ...], batch: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(ShapeOutsideProfiles, match=words):
        counts(profiles, *batch)


def test_the_bytes_of_a_tensor_are_four_a_value() -> None:
    assert tensor_bytes((2, 3, 512, 256)) == 2 * 3 * 512 * 256 * 4


def test_the_answer_is_the_contexts_and_of_its_own_memory(make: MakeRuns) -> None:
    runs = make()
    first, second = photo(2, 3, 16, 24), photo(2, 3, 16, 24, seed=2)
    outputs = [runs.run(ModelInput(first)).pixels, runs.run(ModelInput(second)).pixels]
    np.testing.assert_array_equal(outputs[0], first + 1)
    np.testing.assert_array_equal(outputs[1], second + 1)


def test_each_part_runs_on_the_context_of_its_profile(make: MakeRuns, contexts: list[Any]) -> None:
    batch = photo(6, 3, 32, 32)
    np.testing.assert_array_equal(make(records=False).run(ModelInput(batch)).pixels, batch + 1)
    assert contexts[0].shapes == [(4, 3, 32, 32), (2, 3, 32, 32)]
    large = photo(2, 3, 64, 64)
    np.testing.assert_array_equal(make(records=False).run(ModelInput(large)).pixels, large + 1)
    assert contexts[1].shapes == [(1, 3, 64, 64)] * 2


def test_a_plan_for_mixed_sizes_gets_each_images_size_and_the_whole_shape_in_a_batch_of_one_size(
    cuda: Any, contexts: list[Any], plan_manifest: Callable[..., PlanManifest]
) -> None:
    manifest = plan_manifest(profiles=(SMALL, LARGE), size_inputs=("height", "width"))
    runs = PlanRuns(manifest, contexts, CudaDevice(cuda), 2**20, records=True)
    padded_shape = photo(6, 3, 32, 32)  # in two parts
    for seed in range(4):  # queued, recorded, replayed
        sizes = np.random.default_rng(seed).integers(1, 5, (6, 2)) * 8
        together = runs.begin(ModelInput(padded_shape, sizes)).result().pixels
        np.testing.assert_allclose(together, padded_shape + 1 + (1000 * sizes[:, 0] + sizes[:, 1])[:, None, None, None])
        np.testing.assert_allclose(runs.run(ModelInput(padded_shape)).pixels, padded_shape + 1 + 32032)
    assert cuda.calls.count("cudaStreamBeginCapture") == 2
    runs.close()
    assert not cuda.on_device
    assert not cuda.pinned


def test_buffers_are_allocated_once_a_shape(make: MakeRuns, cuda: Any) -> None:
    runs = make()
    for seed in range(5):
        runs.run(ModelInput(photo(1, 3, 8, 8, seed=seed)))
    assert cuda.calls.count("cudaMalloc") == cuda.calls.count("cudaMallocHost") == 2


def test_a_shape_is_recorded_after_two_runs_and_replayed_with_new_pixels(
    make: MakeRuns, cuda: Any, contexts: list[Any]
) -> None:
    runs = make()
    for seed in range(5):
        batch = photo(1, 3, 8, 8, seed=seed)
        np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert cuda.calls.count("cudaStreamBeginCapture") == 1
    assert cuda.calls.count("cudaGraphLaunch") == 3
    assert len(contexts[0].shapes) == 6  # one more, before it is recorded


@pytest.mark.parametrize(("max_bytes", "records"), [(2**20, False), (0, True)])
def test_nothing_is_recorded_unless_asked(make: MakeRuns, cuda: Any, max_bytes: int, records: bool) -> None:
    runs = make(max_bytes, records=records)
    for seed in range(4):
        batch = photo(1, 3, 8, 8, seed=seed)
        np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert "cudaStreamBeginCapture" not in cuda.calls


def test_a_shape_that_cannot_be_recorded_runs_all_the_same_and_is_not_tried_again(make: MakeRuns, cuda: Any) -> None:
    cuda.refuse_capture = True
    runs = make(SMALL_BUDGET)
    for width in (8, 16):  # each evicts the buffers of the other
        for _ in range(2):
            for seed in range(4):
                batch = photo(1, 3, 8, width, seed=seed)
                np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert cuda.calls.count("cudaStreamBeginCapture") == 2


def test_a_shape_is_recorded_although_another_ran_in_between(make: MakeRuns, cuda: Any) -> None:
    runs = make()
    batches = [photo(1, 3, 8, width, seed=seed) for seed in range(6) for width in (8, 16)]
    pending = runs.begin(ModelInput(batches[0]))
    for number, batch in enumerate(batches):
        behind = runs.begin(ModelInput(batches[number + 1])) if number + 1 < len(batches) else None
        np.testing.assert_array_equal(pending.result().pixels, batch + 1)
        pending = behind  # type: ignore[assignment]
    assert len(cuda.graphs) == cuda.calls.count("cudaStreamBeginCapture") == 2


def test_a_recording_that_fails_half_way_leaves_no_graph_behind(
    make: MakeRuns, cuda: Any, contexts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make()
    execute = contexts[0].execute_async_v3

    def only_outside(stream: int) -> bool:
        return cuda.capturing is None and bool(execute(stream))

    monkeypatch.setattr(contexts[0], "execute_async_v3", only_outside)
    for seed in range(5):
        batch = photo(1, 3, 8, 8, seed=seed)
        np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
    assert cuda.calls.count("cudaStreamBeginCapture") == 1
    assert (cuda.graphs, cuda.unlaunched) == ([], [])


def test_a_thread_that_waits_for_a_run_sleeps(make: MakeRuns, cuda: Any) -> None:
    make().run(ModelInput(photo(1, 3, 8, 8)))
    assert cuda.event_flags == {cuda.cudaEventBlockingSync | cuda.cudaEventDisableTiming}


def test_the_budget_bounds_what_is_kept(make: MakeRuns, cuda: Any) -> None:
    budget = 3 * 2 * tensor_bytes((1, 3, 8, 8))
    runs = make(budget)
    for width in (8, 16, 24, 8, 32):
        batch = photo(1, 3, 8, width)
        np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)
        assert cuda.used() <= budget
    assert len(cuda.on_device) == len(cuda.pinned)


def test_what_is_kept_makes_way_when_the_device_is_full(make: MakeRuns, cuda: Any) -> None:
    cuda.room = 2 * tensor_bytes((1, 3, 64, 64))
    runs = make()
    for _ in range(3):
        runs.run(ModelInput(photo(1, 3, 8, 8)))
    large = photo(1, 3, 64, 64)
    np.testing.assert_array_equal(runs.run(ModelInput(large)).pixels, large + 1)
    assert cuda.graphs == []


def test_what_does_not_fit_an_empty_device_is_out_of_memory_and_leaves_nothing_behind(
    make: MakeRuns, cuda: Any
) -> None:
    cuda.room = tensor_bytes((1, 3, 64, 64)) + 1
    runs = make()
    with pytest.raises(DeviceOutOfMemory, match=r"\(1, 3, 64, 64\)"):
        runs.run(ModelInput(photo(1, 3, 64, 64)))
    assert (cuda.on_device, cuda.pinned) == ({}, {})
    small = photo(1, 3, 8, 8)
    np.testing.assert_array_equal(runs.run(ModelInput(small)).pixels, small + 1)


@pytest.mark.parametrize(("attribute", "words"), [("accepts", "refused a batch"), ("works", "failed on a batch")])
def test_a_context_that_fails_is_a_backend_error_and_the_next_run_goes_well(
    make: MakeRuns, contexts: list[Any], attribute: str, words: str
) -> None:
    runs = make()
    batch = photo(1, 3, 8, 8)
    setattr(contexts[0], attribute, False)
    with pytest.raises(BackendError, match=words):
        runs.run(ModelInput(batch))
    setattr(contexts[0], attribute, True)
    np.testing.assert_array_equal(runs.run(ModelInput(batch)).pixels, batch + 1)


def test_a_size_outside_every_profile_is_told_with_the_sizes_that_are_taken(make: MakeRuns) -> None:
    with pytest.raises(UnsupportedSize, match=r"image of 8x256 pixels.*: 8x8 to 32x32 or 8x8 to 128x128") as caught:
        make().run(ModelInput(photo(1, 3, 256, 8)))
    small, large = caught.value.extensions["allowed_sizes"]
    assert small == {"min_width": 8, "min_height": 8, "max_width": 32, "max_height": 32}
    assert large["max_height"] == 128


def test_a_count_that_no_profile_takes_is_the_plans_fault_and_not_the_clients(
    cuda: Any, contexts: list[Any], plan_manifest: Callable[..., PlanManifest]
) -> None:
    runs = PlanRuns(plan_manifest(profiles=(PAIRS,)), contexts, CudaDevice(cuda), 2**20, records=True)
    with pytest.raises(BackendError, match="takes 3 images of 8x8") as caught:
        runs.run(ModelInput(photo(3, 3, 8, 8)))
    assert not isinstance(caught.value, UnsupportedSize)


def test_a_device_that_failed_for_good_is_lost_and_not_only_the_run(
    make: MakeRuns, cuda: Any, contexts: list[Any]
) -> None:
    runs = make()
    runs.run(ModelInput(photo(1, 3, 8, 8)))
    contexts[0].works = False
    cuda.fault = 700
    for _ in range(2):
        with pytest.raises(BackendLost, match="is lost"):
            runs.run(ModelInput(photo(1, 3, 8, 8)))


def test_a_device_that_fails_while_it_runs_is_lost_where_the_result_is_asked_for(make: MakeRuns, cuda: Any) -> None:
    pending = make().begin(ModelInput(photo(1, 3, 8, 8)))
    cuda.fault = 719
    with pytest.raises(BackendLost, match="error number 719"):
        pending.result()


def test_closing_gives_everything_back(make: MakeRuns, cuda: Any) -> None:
    runs = make()
    for _ in range(4):
        runs.run(ModelInput(photo(1, 3, 8, 8)))
        runs.run(ModelInput(photo(1, 3, 64, 64)))
    assert len(cuda.graphs) == 2
    runs.close()
    assert (cuda.on_device, cuda.pinned, cuda.graphs) == ({}, {}, [])
    assert cuda.calls.count("cudaStreamDestroy") == len(cuda.streams)
    assert cuda.events == {}


@pytest.mark.parametrize("ends_after", [3, None])
def test_a_wait_is_over_with_the_run_or_with_its_time(
    make: MakeRuns, cuda: Any, monkeypatch: pytest.MonkeyPatch, ends_after: int | None
) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if cuda.queries == ends_after:
            for stream in cuda.streams:
                cuda.work_off(stream)

    monkeypatch.setattr("server.backends.plan_runs.time.monotonic", lambda: now[0])
    monkeypatch.setattr("server.backends.plan_runs.time.sleep", sleep)
    batch = photo(2, 3, 16, 16)
    pending = make().begin(ModelInput(batch))
    pending.wait(-1.0)
    assert (now[0], cuda.queries) == (100.0, 0)
    pending.wait(0.5)
    assert now[0] < 100.01 if ends_after else now[0] == pytest.approx(100.5)
    assert pending.result().pixels.shape == batch.shape
