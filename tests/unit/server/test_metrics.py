"""Tests of the metrics."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from server.metrics import STAGE_BUCKETS_S, GpuReading, Metrics
from server.metrics.stage_seconds import StageSeconds


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
    metrics.observe_stages("a", {"queue": 0.2})
    count = registry.get_sample_value("promptir_stage_duration_seconds_count", {"model": "a", "stage": "queue"})
    untouched = registry.get_sample_value("promptir_stage_duration_seconds_count", {"model": "a", "stage": "encode"})
    assert (count, untouched) == (1, 0)
    assert (STAGE_BUCKETS_S[0], STAGE_BUCKETS_S[-1]) == (0.001, 60.0)


def test_queue_depth_is_read_when_scraped(registry: CollectorRegistry) -> None:
    depth = {"jobs": 0, "pixels": 0}
    metrics = Metrics(registry)
    metrics.watch_queue(lambda: depth["jobs"], lambda: depth["pixels"], lambda: depth["jobs"] / 4)
    metrics.watch_cost_model("cuda:0", "a", lambda: 0.05)
    depth.update(jobs=3, pixels=12288)
    assert registry.get_sample_value("promptir_backlog_seconds") == 0.75
    assert registry.get_sample_value("promptir_cost_model_relative_error", {"device": "cuda:0", "model": "a"}) == 0.05
    assert registry.get_sample_value("promptir_queue_tiles") == 3
    assert registry.get_sample_value("promptir_queue_pixels") == 12288


def test_a_run_counts_its_size_and_its_busy_seconds(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.observe_run(4, 0.5, "cuda:0", pixels=4 * 72 * 64, model="a")
    metrics.observe_run(2, 0.25, "cuda:0", pixels=2 * 64 * 64, model="a")
    assert registry.get_sample_value("promptir_device_busy_seconds_total", {"device": "cuda:0"}) == 0.75
    assert registry.get_sample_value("promptir_run_pixels_total", {"device": "cuda:0"}) == 26624
    assert registry.get_sample_value("promptir_batch_size_sum", {"model": "a"}) == 6
    assert registry.get_sample_value("promptir_batch_size_bucket", {"le": "2.0", "model": "a"}) == 1


def test_drops_and_refusals_are_counted_by_reason(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.count_dropped("expired")
    metrics.count_refusal("queue-full")
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 0
    assert registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"}) == 1


def test_every_reason_to_refuse_is_there_before_the_first_refusal(registry: CollectorRegistry) -> None:
    Metrics(registry)
    there = {
        sample.labels["reason"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "promptir_refusals_total"
    }
    assert {"queue-full", "deadline-unmet", "draining", "not-ready", "deadline-exceeded"} <= there
    assert "refused" not in there  # a base class is not a reason


def test_each_device_says_what_runs_each_model_now(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    facts = {"backend": "onnx", "hardware": "cpu", "precision": "fp32", "model_hash": "a1"}
    for artifact in ("first", "second"):
        metrics.set_backend("cpu", "a", artifact=artifact, **facts)
    metrics.set_backend("cpu", "b", artifact="third", **facts)
    lines = [line for line in generate_latest(registry).decode().splitlines() if "backend_info{" in line]
    told = 'artifact="{}",backend="onnx",device="cpu",hardware="cpu",model="{}",model_hash="a1",precision="fp32"'
    pairs = [("second", "a"), ("third", "b")]
    assert lines == [f"promptir_backend_info{{{told.format(*pair)}}} 1.0" for pair in pairs]


def test_the_pixels_that_were_sent_are_beside_those_that_were_run(registry: CollectorRegistry) -> None:
    Metrics(registry).count_restored_pixels(63 * 64)
    assert registry.get_sample_value("promptir_restored_pixels_total") == 4032


def test_a_gpu_tells_what_it_can_and_none_tells_nothing(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    assert not [line for line in generate_latest(registry).decode().splitlines() if line.startswith("promptir_gpu")]
    metrics.watch_gpu("cuda:1", lambda: GpuReading(power_watts=70.5, energy_joules=1000.25))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("promptir_gpu")]
    assert lines == [
        'promptir_gpu_power_watts{device="cuda:1"} 70.5',
        'promptir_gpu_energy_joules_total{device="cuda:1"} 1000.25',
    ]


def test_a_device_is_in_one_condition_at_a_time_and_its_rebuilds_are_there_from_the_start() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def conditions(device: str) -> list[str]:
        return [
            sample.labels["promptir_device_condition"]
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == "promptir_device_condition" and sample.labels["device"] == device and sample.value == 1
        ]

    metrics.set_device_condition("cuda:0", "ready")
    metrics.set_device_condition("cuda:1", "starting")
    metrics.set_device_condition("cuda:0", "lost")
    assert (conditions("cuda:0"), conditions("cuda:1")) == (["lost"], ["starting"])
    metrics.count_rebuild("cuda:0")
    rebuilds = [
        registry.get_sample_value("promptir_device_rebuilds_total", {"device": f"cuda:{index}"}) for index in range(2)
    ]
    assert rebuilds == [1, 0]


def test_the_stages_are_shown_as_the_histogram_of_prometheus_client_shows_them(registry: CollectorRegistry) -> None:
    own, theirs = StageSeconds("a", "Seconds", ("x", "y"), (0.01, 0.1, 1.0), registry), CollectorRegistry()
    other = Histogram("a", "Seconds", ["model", "stage"], buckets=(0.01, 0.1, 1.0), registry=theirs)
    own.add("m")
    for stage in ("x", "y"):
        other.labels("m", stage)
    for seconds in (0.0, 0.01, 0.011, 0.5, 1.0, 7.0):
        exemplar = {"trace_id": f"{seconds}"} if seconds > 0.01 else None
        own.observe("m", [("x", seconds)], exemplar)
        other.labels("m", "x").observe(seconds, exemplar)

    def shown(registry: CollectorRegistry) -> list[object]:
        (family,) = registry.collect()
        samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        seen = [(one.name, one.labels, one.value, one.exemplar and one.exemplar[:2]) for one in samples]
        return [family.name, family.documentation, family.type, sorted(seen, key=str)]

    assert shown(registry) == shown(theirs)
    assert list(registry.restricted_registry(["a_count"]).collect())
    with pytest.raises(ValueError, match="Duplicated"):
        StageSeconds("a", "Seconds", ("x",), (1.0,), registry)
