"""Series of long work: the stored jobs of /v1/jobs."""

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from server.metrics.group import SeriesGroup


class LongWorkSeries(SeriesGroup):
    """Read from the store of jobs when scraped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._jobs = Gauge("promptir_jobs", "Stored jobs of /v1/jobs, by state", ["state"], registry=registry)
        self._job_bytes = Gauge(
            "promptir_jobs_bytes", "Bytes of the jobs' budget that are taken or set aside", registry=registry
        )

    def watch_jobs(self, states: Iterable[str], count: Callable[[str], float]) -> None:
        """Read the number of stored jobs of each state when scraped."""
        for state in states:
            self._jobs.labels(state).set_function(partial(count, state))

    def watch_job_bytes(self, used_bytes: Callable[[], float]) -> None:
        """Read what stored jobs take up when scraped."""
        self._job_bytes.set_function(used_bytes)
