"""Tests of metrics pages of several processes."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from server.metrics import Metrics
from server.metrics.exposition import ProcessPages, content_type, page_of


def registry_of_a_process(refusals: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.add_model("promptnaf")
    for _ in range(refusals):
        metrics.count_refusal("queue-full")
    metrics.observe_run(3, 0.25, "cpu", 4096, "promptnaf")
    return registry


def samples(page: bytes) -> dict[str, float]:
    """Return the value of each sample, by its name and labels in one order."""
    families = text_string_to_metric_families(page.decode())
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def merged(**registries: CollectorRegistry) -> CollectorRegistry:
    both = CollectorRegistry()
    both.register(ProcessPages(lambda: {name: page_of(one, True) for name, one in registries.items()}))
    return both


def test_each_series_of_each_process_is_there_with_its_label() -> None:
    first, second = registry_of_a_process(1), registry_of_a_process(5)
    found = samples(page_of(merged(first=first, second=second), True))
    assert len(found) == len(samples(page_of(first, True))) + len(samples(page_of(second, True)))
    name = "promptir_refusals_total"
    assert found[f"{name}{[('process', 'first'), ('reason', 'queue-full')]}"] == 1
    assert found[f"{name}{[('process', 'second'), ('reason', 'queue-full')]}"] == 5


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_a_family_is_declared_once_for_all_processes(is_openmetrics: bool) -> None:
    page = page_of(merged(first=registry_of_a_process(1), second=registry_of_a_process(2)), is_openmetrics).decode()
    declared = [line for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared))
    assert any("promptir_batch_size histogram" in line for line in declared)
    assert page.endswith("# EOF\n") == is_openmetrics
    assert ("openmetrics" in content_type(is_openmetrics)) == is_openmetrics


def test_without_a_process_the_page_is_empty() -> None:
    assert page_of(merged(), False) == b""
