"""Prometheus metrics of the server: every series, registered on an injected registry."""

from prometheus_client import CollectorRegistry

from server.metrics.devices import DeviceCondition, DeviceMetrics, GpuReading, ReadGpu
from server.metrics.requests import STAGE_BUCKETS_S, QuotaKind, RequestMetrics, Stage
from server.metrics.scheduling import (
    BATCH_SIZE_BUCKETS,
    PARITY_BUCKETS_DB,
    CodecFault,
    DropReason,
    RepeatReason,
    SchedulingMetrics,
)

__all__ = [
    "BATCH_SIZE_BUCKETS",
    "PARITY_BUCKETS_DB",
    "STAGE_BUCKETS_S",
    "CodecFault",
    "DeviceCondition",
    "DropReason",
    "GpuReading",
    "Metrics",
    "QuotaKind",
    "ReadGpu",
    "RepeatReason",
    "Stage",
]


class Metrics(RequestMetrics, SchedulingMetrics, DeviceMetrics):
    """All series as one object, with the prefix `promptir_` and in base units; safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        RequestMetrics.__init__(self, registry)
        SchedulingMetrics.__init__(self, registry)
        DeviceMetrics.__init__(self, registry)

    def add_model(self, model: str) -> None:
        """Create the series of a served model, at 0."""
        self.add_stages(model)
        self.add_batches(model)
