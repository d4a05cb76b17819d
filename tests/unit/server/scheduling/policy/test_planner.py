"""Tests of the planner: a state goes in, a run or a wait comes out."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_states import LARGE, MAX_BATCH, OTHER, SMALL, device, full, state, wait_for

from server.scheduling.policy.batch_delay import LEAST_SAVING_S
from server.scheduling.policy.device import NOTHING_TO_DO, Wait
from server.scheduling.policy.planner import BATCH_SHARE_RUNS, SHORTEST_WAIT_S, Run, State, plan, plan_lone
from server.scheduling.queue.tile import BATCH_PATIENCE_S, STARVATION_S, PaddedShape
from server.scheduling.queue.tile_queue import BucketView

MIDDLE = PaddedShape(192, 192)
"""A run of it takes 24 ms, and 150 ms if full."""


@dataclass(frozen=True)
class Row:
    """One decision: the shape and number of the tiles that run, or None for a wait."""

    sentence: str
    state: State
    runs: tuple[PaddedShape, int] | None


ROWS = [
    Row("nothing waits: there is nothing to do", state(), None),
    Row("all waiting tiles of the only size run", state(wait_for(SMALL, 3)), (SMALL, 3)),
    Row("a run holds at most max_batch images", state(wait_for(SMALL, 20)), (SMALL, MAX_BATCH)),
    Row(
        "a run holds at most max_run_pixels",
        state(wait_for(SMALL, 8), on=device(max_run_pixels=3 * SMALL.pixels + 1)),
        (SMALL, 3),
    ),
    Row(
        "an image above max_run_pixels runs alone",
        state(wait_for(LARGE, 2), on=device(max_run_pixels=SMALL.pixels)),
        (LARGE, 1),
    ),
    Row("of two sizes, the fuller bucket runs first", state(wait_for(SMALL, 2), wait_for(OTHER, 8)), (OTHER, 8)),
    Row(
        "of two equally full buckets, the one that waited longer runs first",
        state(wait_for(SMALL, 8), wait_for(OTHER, 8, age=0.05)),
        (OTHER, 8),
    ),
    Row(
        "a lone tile that waited for STARVATION_S goes before a full run",
        state(wait_for(SMALL, 8), wait_for(OTHER, 1, age=STARVATION_S)),
        (OTHER, 1),
    ),
    Row(
        "of two overdue buckets, the one due first runs",
        state(wait_for(SMALL, 1, age=STARVATION_S + 0.1), wait_for(OTHER, 1, age=STARVATION_S + 0.2)),
        (OTHER, 1),
    ),
    Row(
        "a head that would miss its deadline behind the longest other run goes first",
        state(wait_for(SMALL, 8), wait_for(OTHER, 1, time_left=0.020)),
        (OTHER, 1),
    ),
    Row(
        "a head with time for another run before its own lets the fuller bucket go first",
        state(wait_for(SMALL, 8), wait_for(OTHER, 1, time_left=0.200)),
        (SMALL, 8),
    ),
    Row(
        "a head that is late in any case does not go first",
        state(wait_for(SMALL, 8), wait_for(OTHER, 1, time_left=0.001)),
        (SMALL, 8),
    ),
    Row(
        "interactive tiles go before a fuller bucket of batch tiles",
        state(wait_for(SMALL, 0, batch=8), wait_for(OTHER, 1)),
        (OTHER, 1),
    ),
    Row("batch tiles fill up an interactive run", state(wait_for(SMALL, 2, batch=20)), (SMALL, 8)),
    Row(
        "overdue batch tiles get one run after BATCH_SHARE_RUNS others",
        state(
            wait_for(SMALL, 8),
            wait_for(OTHER, 0, batch=3, age=BATCH_PATIENCE_S),
            runs_since_batch=BATCH_SHARE_RUNS,
        ),
        (OTHER, 3),
    ),
    Row(
        "overdue batch tiles wait for their turn",
        state(
            wait_for(SMALL, 8),
            wait_for(OTHER, 0, batch=3, age=BATCH_PATIENCE_S),
            runs_since_batch=BATCH_SHARE_RUNS - 1,
        ),
        (SMALL, 8),
    ),
    Row(
        "in the turn of the batch class nothing of it is overdue, so interactive tiles run",
        state(wait_for(SMALL, 8), wait_for(OTHER, 0, batch=3), runs_since_batch=BATCH_SHARE_RUNS),
        (SMALL, 8),
    ),
    Row("a long run of batch tiles is cut where that costs little", state(wait_for(LARGE, 0, batch=8)), (LARGE, 1)),
    Row(
        "a long run of batch tiles stays full where its fixed cost makes the most of it",
        state(wait_for(SMALL, 0, batch=8), on=device(fixed_ms=200.0)),
        (SMALL, 8),
    ),
    Row("a long run of batch tiles keeps 95 % of its throughput", state(wait_for(MIDDLE, 0, batch=8)), (MIDDLE, 4)),
    Row(
        "after a run of interactive tiles it keeps 80 %, because more of them probably come",
        state(wait_for(MIDDLE, 0, batch=8), runs_since_batch=1),
        (MIDDLE, 2),
    ),
    Row(
        "overdue batch tiles, which have one run in eight, keep 95 %",
        state(wait_for(MIDDLE, 0, batch=8, age=2 * BATCH_PATIENCE_S), wait_for(SMALL, 1), runs_since_batch=8),
        (MIDDLE, 4),
    ),
    Row("a long run of interactive tiles is not cut", state(wait_for(LARGE, 4)), (LARGE, 4)),
    Row("a long run is cut to its interactive tiles", state(wait_for(LARGE, 3, batch=5)), (LARGE, 3)),
    Row(
        "a run is made smaller to keep its head's deadline",
        state(wait_for(SMALL, 8, time_left=0.0125)),
        (SMALL, 3),
    ),
    Row(
        "a deadline counts from when the device is free",
        state(wait_for(SMALL, 8, time_left=0.0225), on=device(running=((OTHER, 1),), remaining_s=0.010)),
        (SMALL, 3),
    ),
    Row(
        "if no run keeps the head's deadline, the run is not made smaller",
        state(wait_for(SMALL, 8, time_left=0.005)),
        (SMALL, 8),
    ),
    Row(
        "a bucket is left to another device that finishes it sooner",
        state(wait_for(SMALL, 1), on=device(image_ms=100), others=(device("b"),)),
        None,
    ),
    Row(
        "a bucket is not left to a device that is busy for too long",
        state(
            wait_for(SMALL, 1),
            on=device(image_ms=100),
            others=(device("b", running=((LARGE, 8),), remaining_s=1.0),),
        ),
        (SMALL, 1),
    ),
    Row(
        "a device that leaves the first bucket to another one takes the second",
        state(
            wait_for(SMALL, 8, age=0.05),
            wait_for(OTHER, 8),
            on=device(fixed_ms=16),
            others=(device("b", running=((SMALL, 1),), remaining_s=0.005),),
        ),
        (OTHER, 8),
    ),
    Row("equal idle devices share a bucket", state(wait_for(SMALL, 8), others=(device("b"),)), (SMALL, 4)),
    Row(
        "of three equal idle devices each takes a third, rounded up",
        state(wait_for(SMALL, 8), others=(device("b"), device("c"))),
        (SMALL, 3),
    ),
    Row(
        "a slower idle device takes a smaller share",
        state(wait_for(SMALL, 8), on=device(), others=(device("b", 12, 4),)),
        (SMALL, 6),
    ),
    Row("behind a current run, a full bucket begins", full(wait_for(SMALL, 8)), (SMALL, 8)),
    Row("behind a current run, nothing less than a full run begins", full(wait_for(SMALL, 7)), None),
    Row(
        "behind a current run, a full bucket waits while a lone tile is overdue",
        full(wait_for(SMALL, 8), wait_for(OTHER, 1, age=STARVATION_S)),
        None,
    ),
    Row(
        "behind a current run, a full bucket begins beside others that can wait",
        full(wait_for(SMALL, 8), wait_for(OTHER, 1)),
        (SMALL, 8),
    ),
    Row(
        "behind a current run, a long run of batch tiles does not begin",
        full(wait_for(SMALL, 0, batch=8), on=device(fixed_ms=200.0)),
        None,
    ),
    Row(
        "behind a current run, tiles that were all cancelled do not begin",
        full(wait_for(SMALL, 8))._replace(full=()),
        None,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.sentence)
def test_a_state_gives_a_run_or_a_wait(row: Row) -> None:
    decision = plan(row.state)
    if row.runs is None:
        assert isinstance(decision, Wait)
        return
    assert isinstance(decision, Run)
    assert decision.parts == (row.runs,)
    assert decision.padded_shape == row.runs[0]
    assert decision.seconds == pytest.approx(row.state.device.predict(*row.runs))


def test_a_device_without_work_waits_until_something_changes() -> None:
    assert plan(state()) == NOTHING_TO_DO
    assert plan(full(wait_for(SMALL, 1))) == NOTHING_TO_DO


def test_a_device_that_leaves_all_work_to_others_asks_again_when_the_first_of_them_is_free() -> None:
    busy = device("b", running=((SMALL, 1),), remaining_s=0.004), device("c", running=((SMALL, 1),), remaining_s=0.007)
    assert plan(state(wait_for(SMALL, 1), on=device(image_ms=100), others=busy)) == Wait(0.004)
    idle = (device("b"),)
    assert plan(state(wait_for(SMALL, 1), on=device(image_ms=100), others=idle)) == Wait(SHORTEST_WAIT_S)


def test_a_run_says_that_it_is_pressing_and_that_batch_tiles_leave_first() -> None:
    overdue = wait_for(OTHER, 2, batch=3, age=BATCH_PATIENCE_S)
    run = plan(state(wait_for(SMALL, 8), overdue, runs_since_batch=BATCH_SHARE_RUNS))
    assert isinstance(run, Run)
    assert (run.pressing, run.batch_first) == (True, True)
    run = plan(state(wait_for(SMALL, 8), overdue))
    assert isinstance(run, Run)
    assert (run.pressing, run.batch_first) == (True, False)
    run = plan(state(wait_for(SMALL, 8), wait_for(OTHER, 2)))
    assert isinstance(run, Run)
    assert (run.pressing, run.batch_first) == (False, False)


@given(
    bucket=st.builds(wait_for, st.just(SMALL), st.integers(0, 1), age=st.floats(0, 20), batch=st.integers(0, 1)),
    fixed_ms=st.floats(0, 2),
    since=st.integers(0, 9),
)
def test_the_run_of_a_lone_tile_is_planned_without_the_rest_and_is_the_same(
    bucket: BucketView, fixed_ms: float, since: int
) -> None:
    alone = bucket._replace(tiles=1)
    on = device(fixed_ms=fixed_ms)
    lone = plan_lone(SMALL, on)
    assert (lone is None) == (fixed_ms >= 1e3 * LEAST_SAVING_S)
    if lone is not None:
        assert plan(state(alone, on=on, runs_since_batch=since))[:3] == lone[:3]


sizes = st.sampled_from([SMALL, OTHER, LARGE, PaddedShape(128, 64), PaddedShape(256, 320)])
buckets = st.lists(
    st.builds(
        wait_for,
        sizes,
        st.integers(0, 12),
        age=st.floats(0, 20),
        time_left=st.one_of(st.none(), st.floats(0.001, 1)),
        batch=st.integers(1, 12),
    ),
    max_size=5,
    unique_by=lambda bucket: bucket.padded_shape,
)


@given(buckets=buckets, others=st.integers(0, 2), mixes=st.booleans(), since=st.integers(0, 9), behind=st.booleans())
@settings(deadline=None)
def test_a_run_takes_only_what_waits_and_fits_the_device(
    buckets: list[BucketView], others: int, mixes: bool, since: int, behind: bool
) -> None:
    more = {"runs_since_batch": since, "on": device(mixes_sizes=mixes, max_run_pixels=LARGE.pixels)}
    asked = (
        full(*buckets, **more)
        if behind
        else state(*buckets, others=tuple(device(f"b{n}", 6 + n) for n in range(others)), **more)  # type: ignore[arg-type]
    )
    decision = plan(asked)
    assert decision == plan(asked)
    if isinstance(decision, Wait):
        assert decision.seconds > 0
        return
    waiting = {bucket.padded_shape: bucket.tiles for bucket in buckets}
    assert all(0 < count <= waiting[padded_shape] for padded_shape, count in decision.parts)
    assert sum(count for _, count in decision.parts) <= asked.device.room(decision.padded_shape)
    assert len({padded_shape for padded_shape, _ in decision.parts}) == len(decision.parts)
    assert len(decision.parts) == 1 or mixes
