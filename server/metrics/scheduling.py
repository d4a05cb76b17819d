"""Metrics of scheduling: the queue, batches, mixed-size batches and output checks."""

from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.metrics.totals import Totals

DropReason = Literal["cancelled", "expired", "abandoned"]
CodecFault = Literal["ended", "hung", "no-shared-memory"]
RepeatReason = Literal["non-finite", "below-gate"]

BATCH_SIZE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
# A broken half-precision run has about 30 dB, a correct one 60 to 90.
PARITY_BUCKETS_DB = (20, 30, 40, 45, 50, 55, 60, 65, 70, 80, 100)


class SchedulingMetrics:
    """Series set by the batcher, the codec pool and the workers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._add_queue(registry)
        self._add_batches(registry)
        self._add_mixed_sizes(registry)
        self._add_checks(registry)

    def _add_queue(self, registry: CollectorRegistry) -> None:
        self._queue_tiles = Gauge("promptir_queue_tiles", "Tiles waiting in the queue", registry=registry)
        self._queue_pixels = Gauge("promptir_queue_pixels", "Pixels waiting in the queue", registry=registry)
        self._backlog = Gauge(
            "promptir_backlog_seconds", "Predicted seconds until all admitted tiles are done", registry=registry
        )
        self._codec_backlog = Gauge(
            "promptir_codec_backlog_seconds",
            "Predicted seconds until all admitted images are decoded and encoded",
            registry=registry,
        )
        self._codec_faults = Counter(
            "promptir_codec_process_faults",
            "Codec processes that ended or hung, and images worked on in a thread for lack of shared memory",
            ["reason"],
            registry=registry,
        )
        for fault in get_args(CodecFault):
            self._codec_faults.labels(fault)
        self._dropped = Counter(
            "promptir_dropped_tiles",
            "Tiles without a delivered result: cancelled or expired in the queue, or abandoned during their run",
            ["reason"],
            registry=registry,
        )
        for reason in get_args(DropReason):
            self._dropped.labels(reason)

    def _add_batches(self, registry: CollectorRegistry) -> None:
        batch_size = Histogram(
            "promptir_batch_size", "Tiles per batch, by model", ["model"], buckets=BATCH_SIZE_BUCKETS, registry=registry
        )
        self._busy = Totals(
            "promptir_device_busy_seconds", "Seconds each device spent running batches", ["device"], registry=registry
        )
        self._pixels = Totals(
            "promptir_run_pixels",
            "Pixels run on each device, including padding and tile overlap",
            ["device"],
            registry=registry,
        )
        # Children are looked up once: labels() takes a lock and hashes on every call.
        self._batch_size_of = cache(batch_size.labels)
        self._cost_error = Gauge(
            "promptir_cost_model_relative_error",
            "Mean of |predicted - measured| / measured seconds over the latest batches of each model on each device",
            ["device", "model"],
            registry=registry,
        )
        self._out_of_memory = Counter(
            "promptir_out_of_memory_runs", "Batches that ran out of device memory", registry=registry
        )
        self._ceiling = Gauge(
            "promptir_run_pixel_ceiling",
            "Largest number of pixels per batch since device memory ran out; 0 if it never did",
            registry=registry,
        )

    def _add_mixed_sizes(self, registry: CollectorRegistry) -> None:
        self._mixed_batches = Counter(
            "promptir_mixed_size_batches",
            "Mixed-size batches (a subset of promptir_batch_size_count)",
            ["device"],
            registry=registry,
        )
        self._mixed_images = Counter(
            "promptir_mixed_size_images", "Tiles that ran in mixed-size batches", ["device"], registry=registry
        )
        self._padding = Counter(
            "promptir_padding_pixels",
            "Padding pixels in mixed-size batches (a subset of promptir_run_pixels_total)",
            ["device"],
            registry=registry,
        )

    def _add_checks(self, registry: CollectorRegistry) -> None:
        self._non_finite = Counter(
            "promptir_non_finite_outputs", "Outputs that contained a NaN or infinity", registry=registry
        )
        self._repeats = Counter(
            "promptir_fp32_repeats",
            "Images whose result is a second run in FP32",
            ["reason"],
            registry=registry,
        )
        for reason in get_args(RepeatReason):
            self._repeats.labels(reason)
        self._parity = Histogram(
            "promptir_parity_db",
            "PSNR of sampled outputs against FP32",
            buckets=PARITY_BUCKETS_DB,
            registry=registry,
        )

    def count_dropped(self, reason: DropReason) -> None:
        """Count one tile whose result was not delivered."""
        self._dropped.labels(reason).inc()

    def watch_codecs(self, backlog_s: Callable[[], float]) -> None:
        """Read the backlog of the codec pool at each scrape."""
        self._codec_backlog.set_function(backlog_s)

    def count_codec_fault(self, reason: CodecFault) -> None:
        """Count a codec process that was lost, or an image for which there was no shared memory."""
        self._codec_faults.labels(reason).inc()

    def watch_queue(
        self, tiles: Callable[[], float], pixels: Callable[[], float], backlog_s: Callable[[], float]
    ) -> None:
        """Read the depth of the queue at each scrape, without cost for requests."""
        self._queue_tiles.set_function(tiles)
        self._queue_pixels.set_function(pixels)
        self._backlog.set_function(backlog_s)

    def add_batches(self, model: str) -> None:
        """Create the series of a model's batches, at 0."""
        self._batch_size_of(model)

    def observe_run(self, batch_size: int, seconds: float, device: str, pixels: int, model: str = "") -> None:
        """Record one batch, successful or not; `pixels` includes padding."""
        self._batch_size_of(model).observe(batch_size)
        self._busy.add((device,), seconds)
        self._pixels.add((device,), pixels)

    def observe_fp32_run(self, seconds: float, device: str) -> None:
        """Record the seconds of an FP32 run that checks or repeats another run."""
        self._busy.add((device,), seconds)

    def watch_cost_model(self, device: str, model: str, relative_error: Callable[[], float]) -> None:
        """Read the error of the cost model of a model on a device at each scrape."""
        self._cost_error.labels(device, model).set_function(relative_error)

    def count_out_of_memory(self, ceiling_pixels: int) -> None:
        """Count a batch that ran out of memory, and record the resulting pixel limit."""
        self._out_of_memory.inc()
        self._ceiling.set(ceiling_pixels)

    def count_mixed_size_run(self, device: str, images: int, padding_pixels: int) -> None:
        """Count a mixed-size batch, successful or not."""
        self._mixed_batches.labels(device).inc()
        self._mixed_images.labels(device).inc(images)
        self._padding.labels(device).inc(padding_pixels)

    def count_non_finite(self, outputs: int) -> None:
        """Count outputs that contained a NaN or infinity."""
        self._non_finite.inc(outputs)

    def count_repeat(self, reason: RepeatReason) -> None:
        """Count one image that was run again in FP32."""
        self._repeats.labels(reason).inc()

    def observe_parity(self, psnr_db: float) -> None:
        """Record the PSNR of one sampled output against FP32, in dB."""
        self._parity.observe(psnr_db)
