"""Series of what waits: the queue, its backlog and what left it without a result."""

from collections.abc import Callable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.metrics.group import SeriesGroup

DropReason = Literal["cancelled", "expired", "abandoned"]


class WaitingSeries(SeriesGroup):
    """Told by the batcher, and by the threads of the codecs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._queue_jobs = Gauge("promptir_queue_tiles", "Jobs that wait", registry=registry)
        self._queue_pixels = Gauge("promptir_queue_pixels", "Pixels that wait", registry=registry)
        self._backlog = Gauge(
            "promptir_backlog_seconds", "Predicted seconds until all admitted jobs are done", registry=registry
        )
        self._codec_backlog = Gauge(
            "promptir_codec_backlog_seconds",
            "Predicted seconds until all admitted images are read and written",
            registry=registry,
        )
        self._dropped = Counter(
            "promptir_dropped_tiles",
            "Queued jobs without a delivered result: cancelled or expired while waiting, abandoned during their run",
            ["reason"],
            registry=registry,
        )
        for reason in get_args(DropReason):
            self._dropped.labels(reason)

    def count_dropped(self, reason: DropReason) -> None:
        self._dropped.labels(reason).inc()

    def watch_codecs(self, backlog_s: Callable[[], float]) -> None:
        """Read what the codecs have still to do when scraped."""
        self._codec_backlog.set_function(backlog_s)

    def watch_queue(
        self, jobs: Callable[[], float], pixels: Callable[[], float], backlog_s: Callable[[], float]
    ) -> None:
        """Read the depth of the queue when scraped: exact, and free for the request path."""
        self._queue_jobs.set_function(jobs)
        self._queue_pixels.set_function(pixels)
        self._backlog.set_function(backlog_s)
