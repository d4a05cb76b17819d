"""The metrics: every Prometheus series of the server, on an injected registry."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info

Stage = Literal["decode", "queue", "inference", "encode", "total"]
DropReason = Literal["cancelled", "expired", "abandoned"]
RepeatReason = Literal["non-finite", "below-gate"]
DeviceCondition = Literal["starting", "ready", "lost", "stopped"]

# From one millisecond (a decode of a thumbnail) to a minute (a large photo on a CPU).
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCH_SIZE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
# A broken half-precision run is seen near 30 dB, a sound one between 60 and 90.
PARITY_BUCKETS_DB = (20, 30, 40, 45, 50, 55, 60, 65, 70, 80, 100)


class Metrics:
    """All series, prefix `promptir_`, in base units.

    Who reports what: the restorer the stages, once per request (queue and inference from the Completion); the API
    the requests and refusals that happen before the queue; the batcher refusals and dropped jobs; the worker batch
    sizes, busy seconds and what it did about runs that went wrong. Safe to use from any thread.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        stages = Histogram(
            "promptir_stage_duration_seconds",
            "Seconds a request spent in each stage",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        # Children are looked up once: labels() takes a lock and hashes on every call.
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._requests = Counter(
            "promptir_requests",
            "Requests answered, by HTTP status and outcome",
            ["status", "outcome"],
            registry=registry,
        )
        self._outcomes: dict[tuple[int, str], Counter] = {}
        self._batch_size = Histogram(
            "promptir_batch_size", "Jobs per run", buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self._queue_jobs = Gauge("promptir_queue_jobs", "Jobs that wait", registry=registry)
        self._queue_pixels = Gauge("promptir_queue_pixels", "Pixels that wait", registry=registry)
        self._upload_bytes = Gauge(
            "promptir_upload_bytes", "Bytes of the uploads that are being read or decoded", registry=registry
        )
        self._refusals = Counter(
            "promptir_refusals", "Requests refused before they were queued", ["reason"], registry=registry
        )
        self._dropped = Counter(
            "promptir_dropped_jobs",
            "Queued jobs without a delivered result: cancelled or expired while waiting, abandoned during their run",
            ["reason"],
            registry=registry,
        )
        for reason in get_args(DropReason):
            self._dropped.labels(reason)
        self._busy = Counter(
            "promptir_device_busy_seconds", "Seconds each device spent in runs", ["device"], registry=registry
        )
        self._backlog = Gauge(
            "promptir_backlog_seconds", "Predicted seconds until all admitted jobs are done", registry=registry
        )
        self._cost_error = Gauge(
            "promptir_cost_model_relative_error",
            "Mean of |predicted - measured| / measured seconds over the last runs of each device",
            ["device"],
            registry=registry,
        )
        self._non_finite = Counter(
            "promptir_non_finite_outputs", "Outputs of a run that had a NaN or infinity", registry=registry
        )
        self._repeats = Counter(
            "promptir_fp32_repeats", "Images answered from a second run in FP32", ["reason"], registry=registry
        )
        for reason in get_args(RepeatReason):
            self._repeats.labels(reason)
        self._parity = Histogram(
            "promptir_parity_db",
            "PSNR of sampled outputs against FP32",
            buckets=PARITY_BUCKETS_DB,
            registry=registry,
        )
        self._out_of_memory = Counter(
            "promptir_out_of_memory_runs", "Runs that did not fit the device's memory", registry=registry
        )
        self._ceiling = Gauge(
            "promptir_run_pixel_ceiling",
            "Most pixels that are run together since memory ran out; 0 as long as it never did",
            registry=registry,
        )
        self._condition = Enum(
            "promptir_device_condition",
            "What state each device is in",
            ["device"],
            states=list(get_args(DeviceCondition)),
            registry=registry,
        )
        self._rebuilds = Counter(
            "promptir_device_rebuilds", "Lost devices that were started again", ["device"], registry=registry
        )
        self._jobs = Gauge("promptir_jobs", "Stored jobs of /v1/jobs, by state", ["state"], registry=registry)
        self._job_bytes = Gauge(
            "promptir_jobs_bytes", "Bytes of the jobs' budget that are taken or set aside", registry=registry
        )
        self._backend = Info("promptir_backend", "The backend that runs", registry=registry)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        self._stages[stage].observe(seconds)

    def count_request(self, status: int, outcome: str) -> None:
        """Count one answered request; `outcome` is `restored`, an error's slug, or `client-closed`."""
        child = self._outcomes.get((status, outcome))
        if child is None:
            child = self._outcomes[status, outcome] = self._requests.labels(str(status), outcome)
        child.inc()

    def count_refusal(self, reason: str) -> None:
        """Count one refusal; `reason` is the slug of the error."""
        self._refusals.labels(reason).inc()

    def count_dropped(self, reason: DropReason) -> None:
        self._dropped.labels(reason).inc()

    def count_non_finite(self, outputs: int) -> None:
        self._non_finite.inc(outputs)

    def observe_run(self, batch_size: int, seconds: float, device: str) -> None:
        """Record one run of the device, failed or not."""
        self._batch_size.observe(batch_size)
        self._busy.labels(device).inc(seconds)

    def count_repeat(self, reason: RepeatReason) -> None:
        self._repeats.labels(reason).inc()

    def observe_fp32_run(self, seconds: float, device: str) -> None:
        """Record the seconds of a check or a repeat in FP32."""
        self._busy.labels(device).inc(seconds)

    def observe_parity(self, psnr_db: float) -> None:
        self._parity.observe(psnr_db)

    def count_out_of_memory(self, ceiling_pixels: int) -> None:
        """Count a run that did not fit, and the ceiling that follows from it."""
        self._out_of_memory.inc()
        self._ceiling.set(ceiling_pixels)

    def watch_uploads(self, used_bytes: Callable[[], float]) -> None:
        """Read what uploads take up when scraped."""
        self._upload_bytes.set_function(used_bytes)

    def watch_queue(
        self, jobs: Callable[[], float], pixels: Callable[[], float], backlog_s: Callable[[], float]
    ) -> None:
        """Read the depth of the queue when scraped: exact, and free for the request path."""
        self._queue_jobs.set_function(jobs)
        self._queue_pixels.set_function(pixels)
        self._backlog.set_function(backlog_s)

    def watch_jobs(self, states: Iterable[str], count: Callable[[str], float]) -> None:
        """Read the number of stored jobs of each state when scraped."""
        for state in states:
            self._jobs.labels(state).set_function(partial(count, state))

    def watch_job_bytes(self, used_bytes: Callable[[], float]) -> None:
        """Read what stored jobs take up when scraped."""
        self._job_bytes.set_function(used_bytes)

    def watch_cost_model(self, device: str, relative_error: Callable[[], float]) -> None:
        """Read the error of a device's cost model when scraped."""
        self._cost_error.labels(device).set_function(relative_error)

    def set_device_condition(self, device: str, condition: DeviceCondition) -> None:
        self._condition.labels(device).state(condition)
        self._rebuilds.labels(device)

    def count_rebuild(self, device: str) -> None:
        """Count a lost device that is served again."""
        self._rebuilds.labels(device).inc()

    def set_backend(self, backend: str, device: str, artifact: str, precision: str) -> None:
        self._backend.info({"backend": backend, "device": device, "artifact": artifact, "precision": precision})
