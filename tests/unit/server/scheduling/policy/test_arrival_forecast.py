"""Tests of the ArrivalForecast."""

import pytest

from server.scheduling.policy.batch_delay import FORGET_S, MEMORY, NOBODY, ArrivalForecast
from server.scheduling.queue.tile import PaddedShape

SMALL, LARGE = PaddedShape(64, 64), PaddedShape(128, 128)


def taught(*turnarounds: float) -> ArrivalForecast:
    """One answer after another, each followed by an arrival after a time."""
    arrivals = ArrivalForecast()
    for number, seconds in enumerate(turnarounds):
        when = number * 10.0
        arrivals.answered(SMALL, 1, when)
        arrivals.arrived(SMALL, when + seconds)
    return arrivals


def test_nothing_is_expected_if_nobody_was_answered() -> None:
    arrivals = ArrivalForecast()
    arrivals.arrived(SMALL, 1.0)
    assert arrivals.forecast(SMALL, 2.0) == NOBODY
    assert NOBODY.expected(0, 1) == 0
    assert NOBODY.probabilities_of_none([0], 1) == [1]


def test_answered_clients_are_expected_after_the_time_it_took_before() -> None:
    arrivals = taught(*[0.002] * 10)
    arrivals.answered(SMALL, 4, 1000.0)
    forecast = arrivals.forecast(SMALL, 1000.001)
    assert forecast.answers == ((pytest.approx(0.001), 4),)
    assert forecast.expected(0, 0.0005) == 0
    assert forecast.expected(0, 0.002) == 4
    assert forecast.probabilities_of_none([0.0015], 1) == [1]


def test_half_of_them_by_the_median_time() -> None:
    arrivals = taught(*[0.001, 0.003] * 10)
    arrivals.answered(SMALL, 2, 1000.0)
    forecast = arrivals.forecast(SMALL, 1000.0)
    assert forecast.expected(0, 0.002) == pytest.approx(1)
    assert forecast.probabilities_of_none([0.002], 0.01) == [pytest.approx(0.25)]
    assert {round(moment, 6) for moment in forecast.moments(0.01)} == {0.001, 0.003}


def test_a_client_that_is_later_than_any_before_is_not_expected_any_more() -> None:
    arrivals = taught(*[0.002] * 10)
    arrivals.answered(SMALL, 1, 1000.0)
    assert arrivals.forecast(SMALL, 1000.003).expected(0, 1) == 0


def test_an_arrival_belongs_to_the_oldest_answer_of_its_padded_shape() -> None:
    arrivals = taught(0.002)
    arrivals.answered(SMALL, 2, 1000.0)
    arrivals.answered(LARGE, 1, 1000.0)
    arrivals.answered(SMALL, 1, 1000.01)
    arrivals.arrived(SMALL, 1000.02)
    assert arrivals.forecast(SMALL, 1000.02).answers == ((pytest.approx(0.02), 1), (pytest.approx(0.01), 1))
    assert arrivals.forecast(LARGE, 1000.02).answers == ((pytest.approx(0.02), 1),)


def test_clients_that_never_come_back_lower_what_is_expected() -> None:
    arrivals = taught(*[0.002] * 5)
    for number in range(5):
        arrivals.answered(SMALL, 1, 1000.0 + number * 2 * FORGET_S)
    arrivals.answered(SMALL, 10, 2000.0)
    assert arrivals.forecast(SMALL, 2000.0).expected(0, 0.01) == pytest.approx(5)


def test_old_turnarounds_are_forgotten() -> None:
    arrivals = taught(*[0.5] * 10, *[0.002] * MEMORY)
    arrivals.answered(SMALL, 1, 10_000.0)
    assert arrivals.forecast(SMALL, 10_000.0).expected(0, 0.01) == 1
