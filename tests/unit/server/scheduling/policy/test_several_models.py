"""Tests of the planner with two models on a device: what shares a run, and what goes first."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.policy.cost_model import Costs, Line
from server.scheduling.policy.device import DeviceView, ModelView
from server.scheduling.policy.mixed_sizes import FIRST_AFTER, PaddedShapes
from server.scheduling.policy.planner import BATCH_SHARE_RUNS, Run, State, Wait, plan
from server.scheduling.queue.tile import BATCH_PATIENCE_S, STARVATION_S, PaddedShape
from server.scheduling.queue.tile_queue import BucketView

NOW = 100.0
QUICK, SLOW = "quick", "slow"
MAX_BATCH = {QUICK: 8, SLOW: 4}
SMALL, WIDE = PaddedShape(64, 64, QUICK), PaddedShape(64, 72, QUICK)
SLOW_SMALL, SLOW_WIDE = PaddedShape(64, 64, SLOW), PaddedShape(64, 72, SLOW)


def device(name: str = "a", *, mixing: str = "", busy: tuple[tuple[PaddedShape, int], ...] = ()) -> DeviceView:
    """A device with two models: 6 ms a run and 2 ms an image of 64x64, and ten times as much; one may mix sizes."""
    models = {
        model: ModelView(MAX_BATCH[model], 10**9, Costs({}, Line(0.006 * times, 0.002 * times / 4096)), model == mixing)
        for model, times in ((QUICK, 1), (SLOW, 10))
    }
    view = DeviceView(name, models, busy)
    return view._replace(remaining_s=sum(view.predict(*run) for run in busy))


def wait_for(
    padded_shape: PaddedShape, interactive: int, *, age: float = 0.001, time_left: float | None = None, batch: int = 0
) -> BucketView:
    """A bucket whose head came `age` seconds ago, perhaps with seconds left until its deadline."""
    came = NOW - age
    deadline = None if time_left is None else NOW + time_left
    due = came + (STARVATION_S if interactive else BATCH_PATIENCE_S) if deadline is None else deadline
    batch_due = came + BATCH_PATIENCE_S if batch else float("inf")
    return BucketView(padded_shape, interactive + batch, interactive, came, due, deadline, batch_due)


def state(*buckets: BucketView, on: DeviceView | None = None, **more: object) -> State:
    return State(buckets, on or device(), NOW)._replace(**more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One decision: the parts that run together, or none for a wait."""

    sentence: str
    state: State
    parts: tuple[tuple[PaddedShape, int], ...]


ROWS = [
    Row(
        "one size of two models is two buckets, and the fuller one runs first",
        state(wait_for(SMALL, 2), wait_for(SLOW_SMALL, 4)),
        ((SLOW_SMALL, 4),),
    ),
    Row(
        "of two full buckets the one that waited longer runs first, whichever model is quicker",
        state(wait_for(SMALL, 8), wait_for(SLOW_SMALL, 4, age=0.05)),
        ((SLOW_SMALL, 4),),
    ),
    Row("a run holds what its own model takes", state(wait_for(SLOW_SMALL, 20)), ((SLOW_SMALL, MAX_BATCH[SLOW]),)),
    Row(
        "a lone tile that waited too long goes before full runs of the other model",
        state(wait_for(SMALL, 8), wait_for(SLOW_SMALL, 1, age=STARVATION_S + 0.1)),
        ((SLOW_SMALL, 1),),
    ),
    Row(
        "a deadline that a run of the slow model would break goes before it",
        state(wait_for(SMALL, 1, time_left=0.05), wait_for(SLOW_SMALL, 4)),
        ((SMALL, 1),),
    ),
    Row(
        "interactive tiles go before batch tiles of the other model",
        state(wait_for(SMALL, 1), wait_for(SLOW_SMALL, 0, batch=4)),
        ((SMALL, 1),),
    ),
    Row(
        "overdue batch tiles get their share beside interactive ones of the other model",
        state(
            wait_for(SMALL, 8),
            wait_for(SLOW_SMALL, 0, batch=2, age=BATCH_PATIENCE_S + 1),
            runs_since_batch=BATCH_SHARE_RUNS,
        ),
        ((SLOW_SMALL, 2),),
    ),
    Row(
        "sizes of a model that mixes them share a run, and those of the other model stay out",
        state(
            wait_for(SMALL, 1),
            wait_for(WIDE, 1, age=0.1),
            wait_for(SLOW_WIDE, 1),
            on=device(mixing=QUICK),
        ),
        ((WIDE, 1), (SMALL, 1)),
    ),
    Row(
        "shapes that were chosen for one model alone are not those of the other",
        state(
            wait_for(SMALL, 1),
            wait_for(WIDE, 1, age=0.002),
            on=device(mixing=QUICK),
            padded_shapes=(PaddedShape(128, 128, SLOW),),
        ),
        ((WIDE, 1), (SMALL, 1)),
    ),
    Row(
        "a model that mixes no sizes runs one, beside one that does",
        state(wait_for(SLOW_SMALL, 1), wait_for(SLOW_WIDE, 1, age=0.002), on=device(mixing=QUICK)),
        ((SLOW_WIDE, 1),),
    ),
    Row(
        "a device leaves a model's tiles to one that finishes them sooner, though it runs the other model",
        state(
            wait_for(SMALL, 1),
            on=device(busy=((SLOW_SMALL, 4),)),
            others=(device("b", busy=((SMALL, 1),)),),
        ),
        (),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.sentence)
def test_a_state_with_two_models_gives_a_run_of_one_or_a_wait(row: Row) -> None:
    decision = plan(row.state)
    if not row.parts:
        assert isinstance(decision, Wait)
        return
    assert isinstance(decision, Run)
    assert decision.parts == row.parts
    assert decision.padded_shape.model == row.parts[0][0].model
    images = sum(count for _, count in row.parts)
    assert decision.seconds == pytest.approx(row.state.device.predict(decision.padded_shape, images))


shapes = st.builds(
    PaddedShape, st.sampled_from([64, 72, 96]), st.sampled_from([64, 72]), st.sampled_from([QUICK, SLOW])
)


@given(
    st.dictionaries(shapes, st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any), min_size=1),
    st.sampled_from(["", QUICK, SLOW]),
    st.sets(shapes),
    st.integers(0, BATCH_SHARE_RUNS),
)
def test_no_run_mixes_models_or_holds_more_than_its_model_takes(
    waiting: Mapping[PaddedShape, tuple[int, int]], mixing: str, chosen: set[PaddedShape], since: int
) -> None:
    buckets = [wait_for(shape, interactive, batch=batch) for shape, (interactive, batch) in waiting.items()]
    more = {"padded_shapes": tuple(sorted(chosen)), "runs_since_batch": since}
    run = plan(state(*buckets, on=device(mixing=mixing), **more))  # type: ignore[arg-type]
    assert isinstance(run, Run)
    assert {shape.model for shape, _ in run.parts} == {run.padded_shape.model}
    assert 1 <= sum(count for _, count in run.parts) <= MAX_BATCH[run.padded_shape.model]
    assert len(run.parts) == 1 or run.padded_shape.model == mixing


def test_padded_shapes_are_chosen_from_the_traffic_of_each_model() -> None:
    padded_shapes = PaddedShapes()
    for _ in range(FIRST_AFTER):
        padded_shapes.arrived(SMALL)
    assert padded_shapes.chosen == (SMALL,)
    for _ in range(FIRST_AFTER):
        padded_shapes.arrived(PaddedShape(32, 48, SLOW))
    assert padded_shapes.chosen == (PaddedShape(32, 48, SLOW), PaddedShape(48, 32, SLOW), SMALL)
