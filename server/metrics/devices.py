"""Metrics of devices: condition, backend, artifact and GPU sensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Enum, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

DeviceCondition = Literal["starting", "ready", "lost", "stopped"]
SwapResult = Literal["done", "failed"]


@dataclass(frozen=True)
class GpuReading:
    """One reading of a GPU's sensors; None for values the GPU does not report."""

    memory_used_bytes: float | None = None
    memory_bytes: float | None = None
    utilization_ratio: float | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    """Since the driver was loaded."""


ReadGpu = Callable[[], GpuReading]
"""Never raises; values that cannot be read are None."""


class DeviceMetrics:
    """Series set by device supervisors, their pool and NVML."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._condition = Enum(
            "promptir_device_condition",
            "Condition of each device",
            ["device"],
            states=list(get_args(DeviceCondition)),
            registry=registry,
        )
        self._rebuilds = Counter("promptir_device_rebuilds", "Restarts of lost devices", ["device"], registry=registry)
        self._swaps = Counter(
            "promptir_artifact_swaps",
            "Attempts to switch to a better artifact while serving, by result",
            ["result"],
            registry=registry,
        )
        for result in get_args(SwapResult):
            self._swaps.labels(result)
        self._backend = Info(
            "promptir_backend",
            "Backend, hardware and artifact of each model on each device",
            ["device", "model"],
            registry=registry,
        )
        self._gpus = GpuCollector()
        registry.register(self._gpus)

    def count_swap(self, result: SwapResult) -> None:
        """Count an attempt to switch to a better artifact while serving."""
        self._swaps.labels(result).inc()

    def set_device_condition(self, device: str, condition: DeviceCondition) -> None:
        """Set the condition of a device."""
        self._condition.labels(device).state(condition)
        self._rebuilds.labels(device)

    def count_rebuild(self, device: str) -> None:
        """Count a lost device that is ready again."""
        self._rebuilds.labels(device).inc()

    def set_backend(
        self, device: str, model: str, *, backend: str, hardware: str, artifact: str, precision: str, model_hash: str
    ) -> None:
        """Set the backend, hardware and artifact of a model on a device."""
        self._backend.labels(device, model).info(
            {
                "backend": backend,
                "hardware": hardware,
                "artifact": artifact,
                "precision": precision,
                "model_hash": model_hash,
            }
        )

    def watch_gpu(self, device: str, read: ReadGpu) -> None:
        """Read a GPU at each scrape."""
        self._gpus.gpus[device] = read


class GpuCollector(Collector):
    """Reads every GPU once per scrape; values that are not reported have no series."""

    label_names = ("device",)

    def __init__(self) -> None:
        self.gpus: dict[str, ReadGpu] = {}

    def describe(self) -> Iterator[Metric]:
        """Yield the metric families without samples."""
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families with a sample for each GPU."""
        families = self._families()
        for device, read in self.gpus.items():
            reading = read()
            for name, family in families.items():
                value: float | None = getattr(reading, name)
                if value is not None:
                    family.add_metric([device], value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        """Map each field of a reading to its metric family, without samples."""

        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=self.label_names)

        return {
            "memory_used_bytes": gauge("promptir_gpu_memory_used_bytes", "GPU memory in use by all processes"),
            "memory_bytes": gauge("promptir_gpu_memory_bytes", "Total GPU memory"),
            "utilization_ratio": gauge(
                "promptir_gpu_utilization_ratio", "Share of the last sampling period in which the GPU was busy"
            ),
            "power_watts": gauge("promptir_gpu_power_watts", "Power draw of the GPU"),
            "energy_joules": CounterMetricFamily(
                "promptir_gpu_energy_joules",
                "Energy the GPU has used since its driver was loaded, by all processes",
                labels=self.label_names,
            ),
        }
