"""Tests of the batch delay: when a run waits for clients that return soon, and when it starts at once."""

import pytest
from planner_states import OTHER, SMALL, device, state, wait_for

from server.scheduling.policy.batch_delay import Forecast
from server.scheduling.policy.device import Wait
from server.scheduling.policy.planner import Run, State, plan

# Two clients were answered just now, and clients have always returned after a millisecond.
RETURNING = Forecast(((0.0, 2),), (0.001,) * 20)


def test_a_run_waits_for_clients_that_are_expected_back_at_once() -> None:
    wait = plan(state(wait_for(SMALL, 1), forecast=RETURNING))
    assert isinstance(wait, Wait)
    assert (wait.padded_shape, wait.tiles) == (SMALL, 3)
    assert 0.001 < wait.seconds < 0.006


@pytest.mark.parametrize(
    "waits_not",
    [
        state(wait_for(SMALL, 1)),
        state(wait_for(SMALL, 8), forecast=RETURNING),
        state(wait_for(SMALL, 1), wait_for(OTHER, 1), forecast=RETURNING),
        state(wait_for(SMALL, 1), forecast=Forecast(((0.0, 2),), (0.007,) * 20)),
        state(wait_for(SMALL, 1), forecast=Forecast(((0.002, 2),), (0.001,) * 20)),
        state(wait_for(SMALL, 1), forecast=RETURNING, on=device(fixed_ms=0.0)),
        state(wait_for(SMALL, 1), forecast=RETURNING, on=device(delayed_s=0.006)),
        state(wait_for(SMALL, 1, time_left=0.011), forecast=RETURNING),
        state(wait_for(SMALL, 2), forecast=RETURNING, others=(device("b"),)),
    ],
    ids=[
        "nobody was answered",
        "the run is full",
        "another size waits",
        "clients return too late to be worth the wait",
        "clients are later than any before",
        "runs have no fixed cost to save",
        "it has waited for as long as the wait can save",
        "the head's deadline leaves no time for it",
        "another device is idle",
    ],
)
def test_a_run_does_not_wait_for_more_tiles_if(waits_not: State) -> None:
    assert isinstance(plan(waits_not), Run)


def test_tiles_of_the_current_run_are_expected_back_after_its_end() -> None:
    busy = device(running=((SMALL, 4),), remaining_s=0.005)
    wait = plan(state(wait_for(SMALL, 1), on=busy, forecast=Forecast((), (0.001,) * 20)))
    assert isinstance(wait, Wait)
    assert (wait.padded_shape, wait.tiles) == (SMALL, 5)
    assert wait.seconds > busy.remaining_s
