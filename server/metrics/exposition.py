"""Pages of metrics: of one registry, and of several processes as one."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

OPENMETRICS = "application/openmetrics-text"
PROCESS_LABEL = "process"

MetricsPage = Callable[[bool], bytes]
"""Makes a page of metrics: in OpenMetrics, with exemplars, if its argument is true, else in the Prometheus format."""


def process_registry() -> CollectorRegistry:
    """Return a registry with the series of this process: its memory, processor time, files and Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def content_type(is_openmetrics: bool) -> str:
    """Return the Content-Type of a page."""
    return openmetrics.CONTENT_TYPE_LATEST if is_openmetrics else CONTENT_TYPE_LATEST


def page_of(registry: CollectorRegistry, is_openmetrics: bool) -> bytes:
    """Return all series of a registry as a page."""
    if is_openmetrics:
        page: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return page
    return generate_latest(registry)


class ProcessPages(Collector):
    """Collects the series of several processes from their OpenMetrics pages, with the label `process`."""

    def __init__(self, pages: Callable[[], Mapping[str, bytes]]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, page in self._pages().items():
            for family in text_string_to_metric_families(page.decode()):  # type: ignore[no-untyped-call]
                samples = [one._replace(labels={**one.labels, PROCESS_LABEL: process}) for one in family.samples]
                if family.name in families:
                    families[family.name].samples += samples
                else:
                    family.samples = samples
                    families[family.name] = family
        yield from families.values()
