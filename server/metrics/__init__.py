"""The metrics: every Prometheus series of the server, on an injected registry."""

from server.metrics.access import AccessSeries
from server.metrics.devices import DeviceCondition, DeviceSeries
from server.metrics.gpus import GpuSeries
from server.metrics.long_work import LongWorkSeries
from server.metrics.masked import MaskedSeries
from server.metrics.requests import STAGE_BUCKETS_S, RequestSeries, Stage
from server.metrics.runs import BATCH_SIZE_BUCKETS, RunSeries
from server.metrics.soundness import PARITY_BUCKETS_DB, RepeatReason, SoundnessSeries
from server.metrics.waiting import DropReason, WaitingSeries

__all__ = [
    "BATCH_SIZE_BUCKETS",
    "PARITY_BUCKETS_DB",
    "STAGE_BUCKETS_S",
    "DeviceCondition",
    "DropReason",
    "Metrics",
    "RepeatReason",
    "Stage",
]


class Metrics(
    RequestSeries,
    WaitingSeries,
    RunSeries,
    MaskedSeries,
    SoundnessSeries,
    DeviceSeries,
    GpuSeries,
    LongWorkSeries,
    AccessSeries,
):
    """All series as one object, prefix `promptir_`, in base units; each group says who tells it."""
