"""Tests of the token bucket, with a fake clock."""

import pytest

from server.access.bucket import TokenBucket


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_it_is_full_at_first_and_fills_evenly() -> None:
    clock = Clock()
    bucket = TokenBucket(6, clock)  # one token in ten seconds
    assert [bucket.take(1) for _ in range(6)] == [0.0] * 6
    assert bucket.take(1) == pytest.approx(10)
    clock.now += 9
    assert bucket.take(1) == pytest.approx(1)
    clock.now += 1
    assert bucket.take(1) == 0.0
    assert bucket.take(2) == pytest.approx(20)


def test_it_never_holds_more_than_a_minute_brings() -> None:
    clock = Clock()
    bucket = TokenBucket(6, clock)
    clock.now += 3600
    assert [bucket.take(3), bucket.take(3)] == [0.0, 0.0]
    assert bucket.take(0.5) > 0


def test_what_costs_more_than_it_holds_leaves_a_debt() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock)
    assert bucket.take(150) == 0.0
    assert bucket.take(150) == pytest.approx(150)  # a debt of 90, then full
    clock.now += 90
    assert bucket.take(1) == pytest.approx(1)
    clock.now += 60
    assert bucket.take(150) == 0.0
