"""Metrics of requests: outcomes, stages, refusals, API keys and stored jobs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from server import errors
from server.metrics.stage_seconds import StageSeconds
from server.metrics.totals import Totals

PRESENT = 0.5
"""A degradation with a higher probability counts as present."""
CLEAN = "clean"

Stage = Literal["decode", "queue", "inference", "encode", "total"]
QuotaKind = Literal["requests", "megapixels", "suspended"]
"""Reason for refusing a key: an exhausted quota, or suspension."""
WebhookOutcome = Literal["delivered", "retried", "given-up"]
"""End of one attempt to deliver a webhook; `retried` is followed by another attempt."""

# From one millisecond (decoding a thumbnail) to a minute (a large photo on a CPU).
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestMetrics:
    """Series set by the HTTP and gRPC APIs, the restore pipeline, access control and the job store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._add_requests(registry)
        self._add_results(registry)
        self._add_keys(registry)
        self._add_jobs(registry)
        self.refusals = CountedRefusals(self)
        """Context manager that counts the refusals raised inside it."""

    def _add_requests(self, registry: CollectorRegistry) -> None:
        self._stages = StageSeconds(
            "promptir_stage_duration_seconds",
            "Seconds a request spent in each stage, by the model that restored it",
            get_args(Stage),
            STAGE_BUCKETS_S,
            registry,
        )
        self._requests = Totals(
            "promptir_requests",
            "Finished requests, by HTTP status and outcome",
            ["status", "outcome"],
            registry=registry,
        )
        self._refusals = Counter(
            "promptir_refusals", "Requests refused before they entered the queue", ["reason"], registry=registry
        )
        # Created up front: a rate needs the 0 before the first refusal.
        self._reasons = {reason: self._refusals.labels(reason) for reason in refusal_reasons()}
        self._upload_bytes = Gauge(
            "promptir_upload_bytes", "Bytes of uploads that are being read or decoded", registry=registry
        )

    def _add_results(self, registry: CollectorRegistry) -> None:
        self._restored_pixels = Totals(
            "promptir_restored_pixels", "Pixels of restored images, counted at their uploaded size", registry=registry
        )
        self._degradations = Totals(
            "promptir_degradations",
            "Restored images by detected degradation, or clean; an image with several counts once for each",
            ["degradation"],
            registry=registry,
        )

    def _add_keys(self, registry: CollectorRegistry) -> None:
        # `key` is an anonymous label of the client, because metrics may be public: docs/access.md.
        self._key_requests = Counter(
            "promptir_key_requests", "Restore requests admitted, by API key", ["key"], registry=registry
        )
        self._key_pixels = Counter(
            "promptir_key_pixels", "Pixels of admitted images, by API key", ["key"], registry=registry
        )
        self._key_refusals = Counter(
            "promptir_key_refusals",
            "Requests refused because of the key's quotas or suspension",
            ["key", "reason"],
            registry=registry,
        )

    def _add_jobs(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("promptir_jobs", "Stored jobs of /v1/jobs, by state", ["state"], registry=registry)
        self._job_bytes = Gauge(
            "promptir_jobs_bytes", "Bytes of the job budget that are used or reserved", registry=registry
        )
        webhooks = Counter(
            "promptir_webhooks",
            "Attempts to deliver a webhook: delivered, to be retried, or given up",
            ["outcome"],
            registry=registry,
        )
        self._webhooks = {outcome: webhooks.labels(outcome) for outcome in get_args(WebhookOutcome)}

    def add_stages(self, model: str) -> None:
        """Create the series of a model's stages, at 0."""
        self._stages.add(model)

    def observe_stages(
        self, model: str, seconds: Mapping[Stage, float], exemplar: dict[str, str] | None = None
    ) -> None:
        """Record the durations of the stages of one request; `exemplar` links them to the trace of that request."""
        self._stages.observe(model, seconds.items(), exemplar)

    def count_request(self, status: int, outcome: str) -> None:
        """Count one finished request; `outcome` is `restored`, an error's slug, or `client-closed`."""
        self._requests.add((str(status), outcome))

    def count_refusal(self, reason: str) -> None:
        """Count one refusal; `reason` is the slug of the error."""
        self._reasons[reason].inc()

    def count_restored_pixels(self, pixels: int) -> None:
        """Count the pixels of one restored image."""
        self._restored_pixels.add(amount=pixels)

    def count_degradations(self, degradations: Mapping[str, float] | None) -> None:
        """Count one restored image under each detected degradation (probability above one half), or as clean.

        `degradations` maps labels to probabilities; None if the model detects no degradations.
        """
        if degradations is None:
            return
        found = [label for label, probability in degradations.items() if probability > PRESENT]
        for label in found or [CLEAN]:
            self._degradations.add((label,))

    def watch_uploads(self, used_bytes: Callable[[], float]) -> None:
        """Read the memory held by uploads at each scrape."""
        self._upload_bytes.set_function(used_bytes)

    def add_key(self, key: str) -> None:
        """Create the series of a key, at 0."""
        self._key_requests.labels(key)
        self._key_pixels.labels(key)

    def count_key_request(self, key: str) -> None:
        """Count one admitted request of a key."""
        self._key_requests.labels(key).inc()

    def count_key_pixels(self, key: str, pixels: int) -> None:
        """Count the pixels of an admitted image of a key."""
        self._key_pixels.labels(key).inc(pixels)

    def count_key_refusal(self, key: str, reason: QuotaKind) -> None:
        """Count one request refused because of a key's quotas or suspension."""
        self._key_refusals.labels(key, reason).inc()

    def watch_jobs(self, states: Iterable[str], count: Callable[[str], float]) -> None:
        """Read the number of stored jobs in each state at each scrape."""
        for state in states:
            self._jobs.labels(state).set_function(partial(count, state))

    def watch_job_bytes(self, used_bytes: Callable[[], float]) -> None:
        """Read the bytes counted against the job budget at each scrape."""
        self._job_bytes.set_function(used_bytes)

    def count_webhook(self, outcome: WebhookOutcome) -> None:
        """Count one attempt to deliver a webhook."""
        self._webhooks[outcome].inc()


class CountedRefusals:
    """Counts the refusals raised inside a `with` block, by reason; reentrant."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, errors.Refused | errors.DeadlineExceeded):
            self._metrics.count_refusal(error.slug)


def refusal_reasons() -> list[str]:
    """List the slugs of all refusals, and of a deadline that passes before a tile is queued."""
    return sorted({kind.slug for kind in _below(errors.Refused)} | {errors.DeadlineExceeded.slug})


def _below(kind: type[errors.PromptIRServeError]) -> Iterator[type[errors.PromptIRServeError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
