"""Series of soundness: outputs that were not finite, or not near enough to FP32."""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.metrics.group import SeriesGroup

RepeatReason = Literal["non-finite", "below-gate"]

# A broken half-precision run is seen near 30 dB, a sound one between 60 and 90.
PARITY_BUCKETS_DB = (20, 30, 40, 45, 50, 55, 60, 65, 70, 80, 100)


class SoundnessSeries(SeriesGroup):
    """Told by what looks after runs that went wrong."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._non_finite = Counter(
            "promptir_non_finite_outputs", "Outputs of a run that had a NaN or infinity", registry=registry
        )
        self._repeats = Counter(
            "promptir_fp32_repeats", "Images answered from a second run in FP32", ["reason"], registry=registry
        )
        for reason in get_args(RepeatReason):
            self._repeats.labels(reason)
        self._parity = Histogram(
            "promptir_parity_db",
            "PSNR of sampled outputs against FP32",
            buckets=PARITY_BUCKETS_DB,
            registry=registry,
        )

    def count_non_finite(self, outputs: int) -> None:
        self._non_finite.inc(outputs)

    def count_repeat(self, reason: RepeatReason) -> None:
        self._repeats.labels(reason).inc()

    def observe_parity(self, psnr_db: float) -> None:
        self._parity.observe(psnr_db)
