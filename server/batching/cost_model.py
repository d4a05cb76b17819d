"""The CostModel: predicts the seconds of a run from what runs took before."""

from collections import deque

# Enough to smooth single slow runs, few enough to follow a change of load within seconds.
WINDOW_RUNS = 32


class CostModel:
    """Seconds per pixel as a moving average over the last runs; written by one thread, read by any."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, float]] = deque(maxlen=WINDOW_RUNS)
        self._seconds_per_pixel = 0.0

    def observe(self, pixels: int, seconds: float) -> None:
        """Learn that a run of `pixels` (N * H * W) took `seconds`."""
        self._runs.append((pixels, seconds))
        total_pixels = sum(run[0] for run in self._runs)
        self._seconds_per_pixel = sum(run[1] for run in self._runs) / total_pixels

    def predict(self, pixels: int) -> float:
        """Predict the seconds that `pixels` take; 0 as long as nothing was measured."""
        return pixels * self._seconds_per_pixel
