"""The Pace: how long jobs take, from those that ran."""

NEWEST_SHARE = 0.3
"""Of the newest job in the running mean: a change of load or of model shows after a few."""


class Pace:
    """Seconds per pixel of whole jobs; knows nothing until one has ended."""

    def __init__(self) -> None:
        self._seconds_per_pixel: float | None = None

    def observe(self, pixels: int, seconds: float) -> None:
        """Learn that a job took so long, from its beginning to its end."""
        newest = seconds / pixels
        mean = self._seconds_per_pixel
        self._seconds_per_pixel = newest if mean is None else mean + NEWEST_SHARE * (newest - mean)

    def predict(self, pixels: float) -> float | None:
        """Seconds that so many pixels take; None before the first job has ended."""
        return None if self._seconds_per_pixel is None else pixels * self._seconds_per_pixel

    def left(self, pixels: int, done: int, total: int, elapsed_s: float) -> float | None:
        """Seconds that a running job still takes: by its own tiles where some are done, else by other jobs."""
        if done:
            return elapsed_s / done * (total - done)
        whole_s = self.predict(pixels)
        return None if whole_s is None else max(0.0, whole_s - elapsed_s)
