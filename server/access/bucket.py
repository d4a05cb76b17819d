"""Token bucket: limits an amount per minute."""

from collections.abc import Callable

MINUTE_S = 60.0


class TokenBucket:
    """Bucket that starts full and refills evenly up to one minute's amount.

    An amount larger than the bucket is granted when the bucket is full, and leaves a debt; otherwise it could never
    be granted.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = per_minute
        self._filled_at = clock()

    def take(self, amount: float) -> float:
        """Take `amount` and return 0.0, or take nothing and return the seconds until it is available."""
        now = self._clock()
        per_s = self.per_minute / MINUTE_S
        self._level = min(self.per_minute, self._level + (now - self._filled_at) * per_s)
        self._filled_at = now
        missing = min(amount, self.per_minute) - self._level
        if missing > 0:
            return missing / per_s
        self._level -= amount
        return 0.0
