"""Tests of the totals, beside prometheus-client's own counter."""

from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from server.metrics.totals import Totals


def own() -> tuple[CollectorRegistry, Totals]:
    registry = CollectorRegistry()
    return registry, Totals("seen", "What was seen.", ["kind", "place"], registry=registry)


def test_a_page_is_that_of_the_librarys_counter_without_its_times_of_creation() -> None:
    registry, totals = own()
    theirs = CollectorRegistry()
    counter = Counter("seen", "What was seen.", ["kind", "place"], registry=theirs)
    for kind, place, amount in (("a", "here", 1.0), ("b", 'th"ere', 2.5), ("a", "here", 3.0)):
        totals.add((kind, place), amount)
        counter.labels(kind, place).inc(amount)
    for page in (generate_latest, openmetrics.generate_latest):
        lines = [line for line in page(theirs).decode().splitlines() if "_created" not in line]
        assert page(registry).decode().splitlines() == lines


def test_a_total_without_labels_begins_at_0() -> None:
    registry = CollectorRegistry()
    Totals("seen", "What was seen.", registry=registry)
    assert registry.get_sample_value("seen_total") == 0


def test_a_name_can_be_registered_once() -> None:
    registry, _ = own()
    with pytest.raises(ValueError, match="seen"):
        Totals("seen", "What was seen.", registry=registry)


def test_threads_lose_no_update() -> None:
    registry, totals = own()

    def add() -> None:
        for _ in range(20_000):
            totals.add(("a", "here"))

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("seen_total", {"kind": "a", "place": "here"}) == 80_000
