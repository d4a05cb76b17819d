"""Series of access: what each API key asks for and is refused."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter

from server.metrics.group import SeriesGroup

QuotaKind = Literal["requests", "megapixels", "suspended"]
"""Why a key was refused: a quota, or at all."""


class AccessSeries(SeriesGroup):
    """Told by server/access; `key` is a label of the client that tells nobody its name (docs/access.md)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._key_requests = Counter(
            "promptir_key_requests", "Requests for work that were let in, by API key", ["key"], registry=registry
        )
        self._key_pixels = Counter(
            "promptir_key_pixels", "Pixels of the images that were let in, by API key", ["key"], registry=registry
        )
        self._key_refusals = Counter(
            "promptir_key_refusals", "Requests refused by a key's limits", ["key", "reason"], registry=registry
        )

    def add_key(self, key: str) -> None:
        """Begin the series of a key at 0."""
        self._key_requests.labels(key)
        self._key_pixels.labels(key)

    def count_key_request(self, key: str) -> None:
        self._key_requests.labels(key).inc()

    def count_key_pixels(self, key: str, pixels: int) -> None:
        self._key_pixels.labels(key).inc(pixels)

    def count_key_refusal(self, key: str, reason: QuotaKind) -> None:
        self._key_refusals.labels(key, reason).inc()
