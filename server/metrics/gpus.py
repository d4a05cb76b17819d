"""Series of GPUs: memory, utilisation, power and energy, read when scraped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.metrics.group import SeriesGroup


@dataclass(frozen=True)
class GpuReading:
    """What a GPU says of itself at one moment; None for what it does not tell."""

    memory_used_bytes: float | None = None
    memory_bytes: float | None = None
    utilization_ratio: float | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    """Since the driver was loaded."""


ReadGpu = Callable[[], GpuReading]
"""Never raises: what cannot be read is None."""


class GpuCollector(Collector):
    """Reads every GPU once a scrape; a series without a value is left out, and all are where there is no GPU."""

    label_names = ("device",)

    def __init__(self) -> None:
        self.gpus: dict[str, ReadGpu] = {}

    def describe(self) -> Iterator[Metric]:
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        families = self._families()
        for device, read in self.gpus.items():
            reading = read()
            for name, family in families.items():
                value: float | None = getattr(reading, name)
                if value is not None:
                    family.add_metric([device], value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        """Field of a reading -> its family, without samples."""

        def gauge(name: str, told: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, told, labels=self.label_names)

        return {
            "memory_used_bytes": gauge("promptir_gpu_memory_used_bytes", "Memory of the GPU in use, by any process"),
            "memory_bytes": gauge("promptir_gpu_memory_bytes", "Memory of the GPU"),
            "utilization_ratio": gauge(
                "promptir_gpu_utilization_ratio", "Share of the last moments in which anything ran on the GPU"
            ),
            "power_watts": gauge("promptir_gpu_power_watts", "Power that the GPU draws"),
            "energy_joules": CounterMetricFamily(
                "promptir_gpu_energy_joules",
                "Energy that the GPU has taken since its driver was loaded, whoever used it",
                labels=self.label_names,
            ),
        }


class GpuSeries(SeriesGroup):
    """Told by NVML, where there is one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._gpus = GpuCollector()
        registry.register(self._gpus)

    def watch_gpu(self, device: str, read: ReadGpu) -> None:
        """Read a GPU when scraped."""
        self._gpus.gpus[device] = read
