"""Authenticated client, with its remaining quotas."""

from collections.abc import Callable

from server.access.bucket import TokenBucket
from server.access.keys_file import Terms, plain
from server.errors import QuotaExceeded
from server.metrics import Metrics, QuotaKind

PIXELS = 1_000_000


class Caller:
    """Charges a client's quotas before its work starts, without a refund if the work fails.

    Metrics show only the client's `label`, because they may be public.
    """

    def __init__(self, name: str, label: str, terms: Terms, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.name = name
        self.label = label
        self.terms = terms
        self._metrics = metrics
        self._requests = _bucket(terms.requests_per_minute, clock)
        self._megapixels = _bucket(terms.megapixels_per_minute, clock)
        metrics.add_key(label)

    def count_as(self, label: str) -> None:
        """Change the client's label in the metrics, after its keys have changed."""
        if label != self.label:
            self.label = label
            self._metrics.add_key(label)

    def charge_request(self) -> None:
        """Charge one request; raises QuotaExceeded."""
        self._charge(self._requests, 1.0, "requests")
        self._metrics.count_key_request(self.label)

    def charge_pixels(self, pixels: int) -> None:
        """Charge the pixels of an image, from its header; raises QuotaExceeded."""
        self._charge(self._megapixels, pixels / PIXELS, "megapixels")
        self._metrics.count_key_pixels(self.label, pixels)

    def _charge(self, bucket: TokenBucket | None, amount: float, kind: QuotaKind) -> None:
        wait_s = 0.0 if bucket is None else bucket.take(amount)
        if bucket is None or wait_s == 0.0:
            return
        self._metrics.count_refusal(QuotaExceeded.slug)
        self._metrics.count_key_refusal(self.label, kind)
        raise QuotaExceeded(
            f"The key {self.name} has used its quota of {plain(bucket.per_minute)} {kind} per minute.",
            wait_s,
            **{f"{kind}_per_minute": bucket.per_minute},
        )


def _bucket(per_minute: float | None, clock: Callable[[], float]) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute, clock)
