"""Tests of the training schedule in steps and in minutes."""

import pytest

from models.training.schedule import Schedule, Stage


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, final_learning_rate=0.01, warmup_steps=10)
    rates = [schedule.learning_rate_at(step, schedule.progress(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert 0.95 < max(rates) <= 1.0
    assert rates.index(max(rates)) == 9
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_by_the_clock_the_learning_rate_follows_the_time_and_not_the_steps() -> None:
    schedule = Schedule(minutes=10, learning_rate=1.0, final_learning_rate=0.0, warmup_steps=0)
    assert schedule.progress(1_000_000, 300.0) == 0.5
    assert schedule.learning_rate_at(1_000_000, 0.5) == pytest.approx(0.5)
    assert schedule.progress(1, 900.0) == 1.0


def test_stages_follow_each_other() -> None:
    schedule = Schedule(steps=10, stages=(Stage(0.5, 64, 8), Stage(0.8, 96, 4), Stage(1.0, 128, 2)))
    patches = [schedule.stage_at(schedule.progress(step, 0.0)).patch for step in range(11)]
    assert patches == [64] * 5 + [96] * 3 + [128] * 3


@pytest.mark.parametrize("length", [{}, {"steps": 1, "minutes": 1.0}], ids=["none", "both"])
def test_a_run_has_one_length(length: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="in steps or in minutes"):
        Schedule(**length)
