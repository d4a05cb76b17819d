"""Series of runs: how large they are, what they cost the device and which did not fit."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.metrics.group import SeriesGroup

BATCH_SIZE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class RunSeries(SeriesGroup):
    """Told by the worker of each device."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._batch_size = Histogram(
            "promptir_batch_size", "Jobs per run", buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self._busy = Counter(
            "promptir_device_busy_seconds", "Seconds each device spent in runs", ["device"], registry=registry
        )
        self._pixels = Counter(
            "promptir_run_pixels",
            "Pixels that were run, with all that was added around images and between tiles",
            ["device"],
            registry=registry,
        )
        self._cost_error = Gauge(
            "promptir_cost_model_relative_error",
            "Mean of |predicted - measured| / measured seconds over the last runs of each device",
            ["device"],
            registry=registry,
        )
        self._out_of_memory = Counter(
            "promptir_out_of_memory_runs", "Runs that did not fit the device's memory", registry=registry
        )
        self._ceiling = Gauge(
            "promptir_run_pixel_ceiling",
            "Most pixels that are run together since memory ran out; 0 as long as it never did",
            registry=registry,
        )

    def observe_run(self, batch_size: int, seconds: float, device: str, pixels: int) -> None:
        """Record one run of the device, failed or not; `pixels` are those of its whole input."""
        self._batch_size.observe(batch_size)
        self._busy.labels(device).inc(seconds)
        self._pixels.labels(device).inc(pixels)

    def observe_fp32_run(self, seconds: float, device: str) -> None:
        """Record the seconds of a check or a repeat in FP32."""
        self._busy.labels(device).inc(seconds)

    def watch_cost_model(self, device: str, relative_error: Callable[[], float]) -> None:
        """Read the error of a device's cost model when scraped."""
        self._cost_error.labels(device).set_function(relative_error)

    def count_out_of_memory(self, ceiling_pixels: int) -> None:
        """Count a run that did not fit, and the ceiling that follows from it."""
        self._out_of_memory.inc()
        self._ceiling.set(ceiling_pixels)
