"""Series of requests: how they ended, how long each stage took, what was refused."""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server import errors
from server.metrics.group import SeriesGroup

PRESENT = 0.5
"""A degradation more probable than this counts as found."""
CLEAN = "clean"

Stage = Literal["decode", "queue", "inference", "encode", "total"]

# From one millisecond (a decode of a thumbnail) to a minute (a large photo on a CPU).
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestSeries(SeriesGroup):
    """Told by the restorer (the stages, once per request), the API and whoever refuses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
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
        self._restored_pixels = Counter(
            "promptir_restored_pixels", "Pixels of the images that were restored, as they were sent", registry=registry
        )
        self._degradations = Counter(
            "promptir_degradations",
            "Restored images by degradation found in them, or clean; one with several counts for each",
            ["degradation"],
            registry=registry,
        )
        self._upload_bytes = Gauge(
            "promptir_upload_bytes", "Bytes of the uploads that are being read or decoded", registry=registry
        )
        self._refusals = Counter(
            "promptir_refusals", "Requests refused before they were queued", ["reason"], registry=registry
        )
        # There from the start: a rate needs the 0 before the first one.
        self._reasons = {reason: self._refusals.labels(reason) for reason in refusal_reasons()}
        self.refusals = CountedRefusals(self)
        """A context: refusals that are raised in it are counted."""

    def observe_stage(self, stage: Stage, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Count one stage of one request; an `exemplar` says which request it was."""
        self._stages[stage].observe(seconds, exemplar)

    def count_request(self, status: int, outcome: str) -> None:
        """Count one answered request; `outcome` is `restored`, an error's slug, or `client-closed`."""
        child = self._outcomes.get((status, outcome))
        if child is None:
            child = self._outcomes[status, outcome] = self._requests.labels(str(status), outcome)
        child.inc()

    def count_refusal(self, reason: str) -> None:
        """Count one refusal; `reason` is the slug of the error."""
        self._reasons[reason].inc()

    def count_restored_pixels(self, pixels: int) -> None:
        self._restored_pixels.inc(pixels)

    def count_degradations(self, degradations: Mapping[str, float] | None) -> None:
        """Count one restored image under each degradation that is more likely than not, and under none as clean."""
        if degradations is None:
            return
        found = [label for label, probability in degradations.items() if probability > PRESENT]
        for label in found or [CLEAN]:
            self._degradations.labels(label).inc()

    def watch_uploads(self, used_bytes: Callable[[], float]) -> None:
        """Read what uploads take up when scraped."""
        self._upload_bytes.set_function(used_bytes)


class CountedRefusals:
    """A context that counts the refusals raised in it, by their reason; for any number of entries."""

    def __init__(self, series: RequestSeries) -> None:
        self._series = series

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, errors.Refused | errors.DeadlineExceeded):
            self._series.count_refusal(error.slug)


def refusal_reasons() -> list[str]:
    """The slugs of all refusals in the error tree, and of a deadline that has passed before there is a job."""
    return sorted({kind.slug for kind in _below(errors.Refused)} | {errors.DeadlineExceeded.slug})


def _below(kind: type[errors.PromptIRServeError]) -> Iterator[type[errors.PromptIRServeError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
