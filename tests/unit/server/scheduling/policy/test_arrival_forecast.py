"""Tests of the Returns."""

import pytest

from server.scheduling.policy.arrival_forecast import FORGET_S, MEMORY, ArrivalForecast
from server.scheduling.queue.tile import PaddedShape

SMALL, LARGE = PaddedShape(64, 64), PaddedShape(128, 128)


def taught(*turnarounds: float) -> ArrivalForecast:
    """One answer after another, each followed by an arrival after a time."""
    returns = ArrivalForecast()
    for number, seconds in enumerate(turnarounds):
        when = number * 10.0
        returns.answered(SMALL, 1, when)
        returns.arrived(SMALL, when + seconds)
    return returns


def test_nothing_is_expected_where_nobody_was_answered() -> None:
    returns = ArrivalForecast()
    returns.arrived(SMALL, 1.0)
    assert returns.out(SMALL, 2.0) == []
    assert returns.expected([], 0, 1) == 0
    assert returns.probability_of_none([], 0, 1) == 1


def test_those_who_were_answered_are_expected_after_the_time_it_took_before() -> None:
    returns = taught(*[0.002] * 10)
    returns.answered(SMALL, 4, 1000.0)
    out = returns.out(SMALL, 1000.001)
    assert out == [(pytest.approx(0.001), 4)]
    assert returns.expected(out, 0, 0.0005) == 0
    assert returns.expected(out, 0, 0.002) == 4
    assert returns.probability_of_none(out, 0.0015, 1) == 1


def test_half_of_them_by_the_median_time() -> None:
    returns = taught(*[0.001, 0.003] * 10)
    returns.answered(SMALL, 2, 1000.0)
    out = returns.out(SMALL, 1000.0)
    assert returns.expected(out, 0, 0.002) == pytest.approx(1)
    assert returns.probability_of_none(out, 0.002, 0.01) == pytest.approx(0.25)
    assert {round(moment, 6) for moment in returns.moments(out, 0.01)} == {0.001, 0.003}


def test_who_is_later_than_anyone_before_is_not_expected_any_more() -> None:
    returns = taught(*[0.002] * 10)
    returns.answered(SMALL, 1, 1000.0)
    assert returns.expected(returns.out(SMALL, 1000.003), 0, 1) == 0


def test_an_arrival_belongs_to_the_oldest_answer_of_its_padded_shape() -> None:
    returns = taught(0.002)
    returns.answered(SMALL, 2, 1000.0)
    returns.answered(LARGE, 1, 1000.0)
    returns.answered(SMALL, 1, 1000.01)
    returns.arrived(SMALL, 1000.02)
    assert returns.out(SMALL, 1000.02) == [(pytest.approx(0.02), 1), (pytest.approx(0.01), 1)]
    assert returns.out(LARGE, 1000.02) == [(pytest.approx(0.02), 1)]


def test_clients_that_never_come_back_lower_what_is_expected() -> None:
    returns = taught(*[0.002] * 5)
    for number in range(5):
        returns.answered(SMALL, 1, 1000.0 + number * 2 * FORGET_S)
    returns.answered(SMALL, 10, 2000.0)
    assert returns.expected(returns.out(SMALL, 2000.0), 0, 0.01) == pytest.approx(5)


def test_old_turnarounds_are_forgotten() -> None:
    returns = taught(*[0.5] * 10, *[0.002] * MEMORY)
    returns.answered(SMALL, 1, 10_000.0)
    assert returns.expected(returns.out(SMALL, 10_000.0), 0, 0.01) == 1
