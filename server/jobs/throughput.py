"""Estimate of how long jobs take, learned from finished ones."""

NEWEST_SHARE = 0.3
"""Weight of the newest job in the running mean; a change of load or model shows after a few jobs."""


class Throughput:
    """Learns the seconds per pixel of whole jobs; has no estimate before the first one has finished."""

    def __init__(self) -> None:
        self._seconds_per_pixel: float | None = None

    def observe(self, pixels: int, seconds: float) -> None:
        """Record a finished job's pixels and duration in seconds."""
        newest = seconds / pixels
        mean = self._seconds_per_pixel
        self._seconds_per_pixel = newest if mean is None else mean + NEWEST_SHARE * (newest - mean)

    def predict(self, pixels: float) -> float | None:
        """Predict the seconds that `pixels` take; None before the first job has finished."""
        return None if self._seconds_per_pixel is None else pixels * self._seconds_per_pixel

    def left(self, pixels: int, done: int, total: int, elapsed_s: float) -> float | None:
        """Predict the seconds left of a running job: from its own tiles once some are done, else from other jobs."""
        if done:
            return elapsed_s / done * (total - done)
        whole_s = self.predict(pixels)
        return None if whole_s is None else max(0.0, whole_s - elapsed_s)
