"""Tests of the Throughput."""

from server.jobs.throughput import Throughput


def test_nothing_is_predicted_before_anything_ran() -> None:
    assert Throughput().predict(100) is None
    assert Throughput().left(100, 0, 0, 5.0) is None


def test_the_tiles_of_a_job_say_more_than_other_jobs() -> None:
    throughput = Throughput()
    throughput.observe(100, 1000.0)
    assert throughput.left(100, 2, 8, 3.0) == 9.0
    assert throughput.left(100, 0, 8, 3.0) == 997.0


def test_a_job_that_takes_longer_than_others_did_is_due_and_not_overdue() -> None:
    throughput = Throughput()
    throughput.observe(100, 10.0)
    assert throughput.left(100, 0, 0, 60.0) == 0.0


def test_a_change_of_speed_shows_after_a_few_jobs() -> None:
    throughput = Throughput()
    throughput.observe(100, 10.0)
    for _ in range(10):
        throughput.observe(100, 50.0)
    predicted = throughput.predict(100)
    assert predicted is not None
    assert 48 < predicted < 50
