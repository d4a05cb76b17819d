"""Tests of the metrics."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.metrics import STAGE_BUCKETS_S, Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_every_series_has_the_prefix(registry: CollectorRegistry) -> None:
    Metrics(registry)
    assert [family.name for family in registry.collect() if not family.name.startswith("promptir_")] == []


def test_two_servers_in_one_process_do_not_share_series(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    Metrics(registry).count_request(200, "restored")
    Metrics(other)
    labels = {"status": "200", "outcome": "restored"}
    assert registry.get_sample_value("promptir_requests_total", labels) == 1
    assert other.get_sample_value("promptir_requests_total", labels) is None


def test_stages_share_one_histogram_from_a_millisecond_to_a_minute(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.observe_stage("queue", 0.2)
    count = registry.get_sample_value("promptir_stage_duration_seconds_count", {"stage": "queue"})
    untouched = registry.get_sample_value("promptir_stage_duration_seconds_count", {"stage": "encode"})
    assert (count, untouched) == (1, 0)
    assert (STAGE_BUCKETS_S[0], STAGE_BUCKETS_S[-1]) == (0.001, 60.0)


def test_queue_depth_is_read_when_scraped(registry: CollectorRegistry) -> None:
    depth = {"jobs": 0, "pixels": 0}
    Metrics(registry).watch_queue(jobs=lambda: depth["jobs"], pixels=lambda: depth["pixels"])
    depth.update(jobs=3, pixels=12288)
    assert registry.get_sample_value("promptir_queue_jobs") == 3
    assert registry.get_sample_value("promptir_queue_pixels") == 12288


def test_a_run_counts_its_size_and_its_busy_seconds(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.observe_run(4, 0.5)
    metrics.observe_run(2, 0.25)
    assert registry.get_sample_value("promptir_device_busy_seconds_total") == 0.75
    assert registry.get_sample_value("promptir_batch_size_sum") == 6
    assert registry.get_sample_value("promptir_batch_size_bucket", {"le": "2.0"}) == 1


def test_drops_and_refusals_are_counted_by_reason(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.count_dropped("expired")
    metrics.count_refusal("queue-full")
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "expired"}) == 1
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "cancelled"}) == 0
    assert registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"}) == 1


def test_the_backend_says_what_it_is(registry: CollectorRegistry) -> None:
    Metrics(registry).set_backend("simulated", "simulated", "identity", "fp32")
    line = 'promptir_backend_info{artifact="identity",backend="simulated",device="simulated",precision="fp32"} 1.0'
    assert line in generate_latest(registry).decode()
