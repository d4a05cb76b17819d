"""Accept: which kind of answer a client would rather have (RFC 9110, section 12.5.1)."""

from collections.abc import Iterable

_MOST_RANGES = 64


class Accept:
    """The media ranges of an Accept header, each with its weight; without a header everything is wanted alike."""

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
        """Whether a type is wanted by its own name."""
        return self._weights.get(media_type, 0.0) > 0

    def weight(self, media_type: str) -> float:
        """0..1 by the most specific range that covers the type."""
        if self.is_empty:
            return 1.0
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((self._weights[name] for name in ranges if name in self._weights), 0.0)

    def best(self, offered: Iterable[str]) -> str | None:
        """The type of the greatest weight, of equal ones the first offered; None where none is wanted."""
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
