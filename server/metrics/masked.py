"""Series of masked runs: how often several sizes share a padded shape, and what is padded for it."""

from prometheus_client import CollectorRegistry, Counter

from server.metrics.group import SeriesGroup


class MaskedSeries(SeriesGroup):
    """Told by the worker of each device."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._runs = Counter(
            "promptir_mixed_size_batches",
            "Runs of several sizes in one padded_shape, of all in promptir_batch_size_count",
            ["device"],
            registry=registry,
        )
        self._images = Counter(
            "promptir_mixed_size_images",
            "Images and tiles that ran in such a padded_shape",
            ["device"],
            registry=registry,
        )
        self._padding = Counter(
            "promptir_padding_pixels",
            "Pixels of such padded_shapes outside of their images; promptir_run_pixels_total has them in",
            ["device"],
            registry=registry,
        )

    def count_masked_run(self, device: str, images: int, padding_pixels: int) -> None:
        """Count a run of several sizes, failed or not."""
        self._runs.labels(device).inc()
        self._images.labels(device).inc(images)
        self._padding.labels(device).inc(padding_pixels)
