"""The token bucket: how much of something may be had in a minute."""

from collections.abc import Callable

MINUTE_S = 60.0


class TokenBucket:
    """Holds what a minute brings, and is full at first; it fills evenly on the clock.

    What costs more than it holds is given from a full bucket and leaves a debt, for it could never be had otherwise.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = per_minute
        self._filled_at = clock()

    def take(self, amount: float) -> float:
        """Take it and return 0.0, or take nothing and return the seconds until it could be had."""
        now = self._clock()
        per_s = self.per_minute / MINUTE_S
        self._level = min(self.per_minute, self._level + (now - self._filled_at) * per_s)
        self._filled_at = now
        lacking = min(amount, self.per_minute) - self._level
        if lacking > 0:
            return lacking / per_s
        self._level -= amount
        return 0.0
