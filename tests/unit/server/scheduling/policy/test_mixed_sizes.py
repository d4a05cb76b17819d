"""Tests of mixed-size batches: buckets join a run where that takes less time than separate runs."""

import pytest
from devices import a_device_view
from hypothesis import given, settings
from hypothesis import strategies as st

from server.scheduling.policy.cost_model import Costs, Line
from server.scheduling.policy.device import DeviceView
from server.scheduling.policy.planner import Run, State, plan
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import BucketView

FIXED_S, S_A_PIXEL = 0.006, 7.6e-9
MAX_BATCH = 8
NOW = 1.0
SQUARE, WIDE, TALL = PaddedShape(256, 256), PaddedShape(256, 320), PaddedShape(320, 256)
HUGE = PaddedShape(1024, 1024)


def a_device(fixed_s: float = FIXED_S, unsupported_shapes: frozenset[PaddedShape] = frozenset()) -> DeviceView:
    costs = Costs({}, Line(fixed_s, S_A_PIXEL))
    return a_device_view("sim", MAX_BATCH, 2_097_152, costs, mixes_sizes=True, unsupported_shapes=unsupported_shapes)


def a_bucket(
    padded_shape: PaddedShape,
    count: int = 1,
    deadline: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
    age: float = 0.01,
) -> BucketView:
    interactive = count if priority is Priority.INTERACTIVE else 0
    return BucketView(padded_shape, count, interactive, NOW - age, deadline or NOW + 1, deadline)


def the_run(buckets: list[BucketView], device: DeviceView, padded_shapes: tuple[PaddedShape, ...] = ()) -> Run:
    run = plan(State(tuple(buckets), device, NOW, padded_shapes=padded_shapes))
    assert isinstance(run, Run)
    return run


def is_shared(run: Run) -> bool:
    return len(run.parts) > 1


def test_two_similar_sizes_share_the_larger_ones_padded_shape() -> None:
    run = the_run([a_bucket(WIDE), a_bucket(SQUARE)], a_device())
    assert (run.padded_shape, run.parts) == (WIDE, ((WIDE, 1), (SQUARE, 1)))


def test_a_padded_shape_that_the_device_has_refused_is_left_out() -> None:
    buckets, device = [a_bucket(WIDE), a_bucket(SQUARE)], a_device(unsupported_shapes=frozenset({WIDE}))
    assert not is_shared(the_run(buckets, device))
    assert the_run(buckets, device, (WIDE, PaddedShape(320, 320))).padded_shape == PaddedShape(320, 320)


def test_sizes_that_do_not_hold_each_other_need_a_padded_shape_that_holds_both() -> None:
    buckets = [a_bucket(WIDE), a_bucket(TALL)]
    assert not is_shared(the_run(buckets, a_device()))
    run = the_run(buckets, a_device(), (PaddedShape(512, 512), PaddedShape(320, 320)))
    assert run.padded_shape == PaddedShape(320, 320)


def test_until_padded_shapes_were_chosen_the_larger_size_that_waits_stands_in() -> None:
    run = the_run([a_bucket(SQUARE, age=0.02), a_bucket(WIDE)], a_device())
    assert (run.padded_shape, run.parts) == (WIDE, ((SQUARE, 1), (WIDE, 1)))


def test_a_small_image_does_not_run_in_the_padded_shape_of_a_large_one() -> None:
    assert not is_shared(the_run([a_bucket(HUGE), a_bucket(SQUARE)], a_device(), (HUGE,)))


def test_if_runs_have_no_fixed_cost_nothing_is_padded() -> None:
    assert not is_shared(the_run([a_bucket(WIDE), a_bucket(SQUARE)], a_device(fixed_s=0.0)))


def test_a_bucket_that_fills_a_run_runs_by_itself() -> None:
    run = the_run([a_bucket(WIDE, MAX_BATCH), a_bucket(SQUARE)], a_device())
    assert run.parts == ((WIDE, MAX_BATCH),)
    run = the_run([a_bucket(WIDE), a_bucket(SQUARE, MAX_BATCH)], a_device())
    assert not is_shared(run)


def test_a_run_of_more_images_than_a_padded_shape_has_room_for_does_not_move_there() -> None:
    small, larger = PaddedShape(64, 64), PaddedShape(512, 768)  # five images of the larger one fill a run
    run = the_run([a_bucket(small, 6, age=0.1), a_bucket(larger, 1)], a_device(0.1), (larger,))
    assert run.parts == ((small, 6),)


def test_a_deadline_that_the_run_keeps_alone_is_kept() -> None:
    device = a_device()
    alone = device.predict(WIDE, 1)
    run = the_run([a_bucket(WIDE, deadline=NOW + alone + 1e-4), a_bucket(SQUARE)], device)
    assert run.parts == ((WIDE, 1),)


def test_a_deadline_that_leaves_time_for_three_is_kept_by_a_shared_run_of_three() -> None:
    device = a_device()
    buckets = [a_bucket(WIDE, deadline=NOW + device.predict(WIDE, 3) + 1e-4)]
    buckets += [a_bucket(PaddedShape(256, width)) for width in (64, 128, 192, 256)]
    run = the_run(buckets, device, (WIDE,))
    assert run.padded_shape == WIDE
    assert sum(count for _, count in run.parts) == 3


def test_batch_tiles_do_not_lengthen_an_interactive_run() -> None:
    buckets = [a_bucket(WIDE), a_bucket(SQUARE, priority=Priority.BATCH)]
    assert not is_shared(the_run(buckets, a_device()))


def test_beside_an_idle_device_nothing_is_shared() -> None:
    buckets = (a_bucket(WIDE), a_bucket(SQUARE))
    run = plan(State(buckets, a_device(), NOW, (a_device()._replace(name="other"),)))
    assert isinstance(run, Run)
    assert not is_shared(run)


waiting = st.dictionaries(
    st.tuples(st.integers(1, 16), st.integers(1, 16)).map(lambda size: PaddedShape(size[0] * 64, size[1] * 64)),
    st.integers(1, 12),
    min_size=1,
    max_size=10,
)


@given(counts=waiting, fixed_ms=st.floats(0, 20))
@settings(deadline=None)
def test_a_shared_run_takes_less_time_than_separate_runs_and_holds_all_its_tiles(
    counts: dict[PaddedShape, int], fixed_ms: float
) -> None:
    device = a_device(fixed_ms / 1e3)
    buckets = [a_bucket(padded_shape, count) for padded_shape, count in counts.items()]
    run = the_run(buckets, device, (PaddedShape(512, 512), HUGE))
    if not is_shared(run):
        return
    height, width, _ = run.padded_shape
    assert len({padded_shape for padded_shape, _ in run.parts}) == len(run.parts)
    assert all(padded_shape[0] <= height and padded_shape[1] <= width for padded_shape, _ in run.parts)
    images = sum(count for _, count in run.parts)
    assert images <= device.room(run.padded_shape)
    assert run.seconds == pytest.approx(device.predict(run.padded_shape, images))
    assert run.seconds < sum(device.predict(*part) for part in run.parts)
