"""Accept: which media type a client prefers (RFC 9110, section 12.5.1)."""

from collections.abc import Iterable

_MOST_RANGES = 64


class Accept:
    """The media ranges of an Accept header with their weights; without a header all types are equally welcome."""

    def __init__(self, header: str | None) -> None:
        self._weights: dict[str, float] = {}
        for part in (header or "").split(",")[:_MOST_RANGES]:
            media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
            if media_range:
                self._weights[media_range] = _weight(parameters)

    @property
    def is_empty(self) -> bool:
        return not self._weights

    def names(self, media_type: str) -> bool:
        """Whether a type is listed by its own name, with a positive weight."""
        return self._weights.get(media_type, 0.0) > 0

    def weight(self, media_type: str) -> float:
        """Return the weight of a type, 0..1, by the most specific range that covers it."""
        if self.is_empty:
            return 1.0
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((self._weights[name] for name in ranges if name in self._weights), 0.0)

    def best(self, offered: Iterable[str]) -> str | None:
        """Return the type with the greatest weight, the first of equal ones; None if none is acceptable."""
        best = max(offered, key=self.weight)
        return best if self.weight(best) > 0 else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
