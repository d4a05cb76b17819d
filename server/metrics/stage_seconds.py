"""The StageSeconds: a histogram of the seconds of each stage, updated once for all stages of a request."""

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from threading import Lock

from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class _Series:
    """The observations of one model and stage: their number by bucket, not cumulative, and their sum."""

    __slots__ = ("counts", "exemplars", "seconds")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.exemplars: list[Exemplar | None] = [None] * buckets
        self.seconds = 0.0


class StageSeconds(Collector):
    """Histogram by model and stage, which looks like prometheus-client's own; safe to use from any thread.

    That one takes two locks for each stage and searches its buckets one by one: a twentieth of a small image's Python.
    """

    label_names = ("model", "stage")

    def __init__(
        self,
        name: str,
        documentation: str,
        stages: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation = name, documentation
        self._stages, self._bounds = stages, tuple(buckets)
        self._shown = [*map(floatToGoString, self._bounds), "+Inf"]
        self._models: dict[str, dict[str, _Series]] = {}
        self._lock = Lock()
        registry.register(self)

    def add(self, model: str) -> None:
        """Create the series of a model, at 0."""
        with self._lock:
            self._add(model)

    def observe(self, model: str, seconds: Iterable[tuple[str, float]], exemplar: dict[str, str] | None = None) -> None:
        """Record the seconds of some stages of one request; `exemplar` links them to its trace."""
        with self._lock:
            stages = self._models.get(model) or self._add(model)
            for stage, taken in seconds:
                series, bucket = stages[stage], bisect_left(self._bounds, taken)
                series.counts[bucket] += 1
                series.seconds += taken
                if exemplar is not None:
                    series.exemplars[bucket] = Exemplar(exemplar, taken, time.time())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the series as they are now."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self.label_names)
        with self._lock:
            for model, stages in self._models.items():
                for stage, series in stages.items():
                    totals = map(float, accumulate(series.counts))
                    rows = zip(self._shown, totals, series.exemplars, strict=True)
                    buckets = [(le, total) if seen is None else (le, total, seen) for le, total, seen in rows]
                    family.add_metric((model, stage), buckets, series.seconds)
        yield family

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Return the family without its series, by which the registry knows its names."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self.label_names)

    def _add(self, model: str) -> dict[str, _Series]:
        return self._models.setdefault(model, {stage: _Series(len(self._shown)) for stage in self._stages})
