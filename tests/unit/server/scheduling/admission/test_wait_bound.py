"""Tests of the bound on a wait: the lateness that it allows for."""

import random

import pytest

from server.scheduling.admission.backlog import QUANTILE, WaitBound

BOUND_S = 2.0


def learnt(errors: list[float], predicted_s: float = 1.5) -> WaitBound:
    bound = WaitBound(BOUND_S)
    for error in errors:
        bound.learn(predicted_s, predicted_s + error)
    return bound


def test_it_comes_to_exceed_nearly_all_errors_and_not_by_much() -> None:
    chance = random.Random(1)
    errors = [chance.uniform(0, 0.5) for _ in range(20_000)]
    found = learnt(errors).lateness_s
    assert found == pytest.approx(0.5 * QUANTILE, abs=0.03)


def test_it_falls_back_where_predictions_hold_again() -> None:
    late = [0.3] * 2000
    assert learnt(late).lateness_s == pytest.approx(0.3, abs=0.01)
    assert learnt(late + [0.0] * 20_000).lateness_s < 0.02


def test_the_worst_of_times_leave_room_to_learn_that_they_are_over() -> None:
    bound = learnt([100.0] * 5000)
    admitted_s = BOUND_S - bound.lateness_s
    for _ in range(100_000):
        bound.learn(admitted_s, admitted_s)
    assert bound.lateness_s < 0.02


def test_who_ends_sooner_than_predicted_gives_no_credit() -> None:
    assert learnt([-1.0] * 1000).lateness_s == 0


def test_short_waits_say_nothing() -> None:
    assert learnt([5.0] * 1000, predicted_s=0.4 * BOUND_S).lateness_s == 0


def test_without_a_bound_there_is_nothing_to_learn() -> None:
    bound = WaitBound(float("inf"))
    bound.learn(1.0, 5.0)
    assert bound.lateness_s == 0
