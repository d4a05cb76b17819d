"""The CostModel: predicts the seconds of a run from what runs took before."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median_low
from typing import NamedTuple

# Of one padded shape and count: a median of five ignores two slow runs, and has followed a change after three.
RUNS_A_POINT = 5
# A point counts half as much for each so many runs of its padded shape that came after it.
HALF_LIFE_RUNS = 8.0
# Below the resolution of any clock: what is divided by is not zero.
SHORTEST_S = 1e-9
# For padded shapes that were never seen: enough to span sizes, few enough to be fitted in microseconds.
RECENT_RUNS = 48
# Uploads have any size; those seen last are remembered.
MOST_CANVASES = 256
# How often that fit is made anew once there are so many: it is the costliest part of a run's bookkeeping.
RECENT_EVERY = 16
# Sizes that differ by less do not tell what of a run is fixed and what goes by its pixels.
TELLING_RATIO = 2.0
# Runs nearer than that to the line are never left out.
SOUND_ERROR = 0.02
# The mean error over about so many runs.
ERROR_RUNS = 32


class Line(NamedTuple):
    """Seconds as `fixed + slope * x`, neither negative."""

    fixed: float
    slope: float

    def at(self, x: float) -> float:
        return self.fixed + self.slope * x


@dataclass(slots=True)
class _Point:
    """The last seconds of runs of one count, their median, and the last run of it, in runs of the padded_shape."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RUNS_A_POINT))
    median: float = 0.0
    last: int = 0


@dataclass(slots=True)
class _Fit:
    """What is known of one padded shape: its points by count."""

    points: dict[int, _Point] = field(default_factory=dict)
    runs: int = 0

    def learn(self, count: int, seconds: float) -> None:
        self.runs += 1
        point = self.points.setdefault(count, _Point())
        point.seconds.append(seconds)
        point.median, point.last = median_low(point.seconds), self.runs

    def line(self, area: int, by_pixels: Line) -> Line:
        """Seconds by the count; of a single count, with the proportions that `by_pixels` has for that area."""
        if len(self.points) > 1:
            return fitted(
                (n, point.median, len(point.seconds) * 0.5 ** ((self.runs - point.last) / HALF_LIFE_RUNS))
                for n, point in self.points.items()
            )
        ((count, point),) = self.points.items()
        elsewhere = by_pixels.at(count * area)
        if elsewhere <= 0:
            return Line(0.0, point.median / count)
        scale = point.median / elsewhere
        return Line(scale * by_pixels.fixed, scale * by_pixels.slope * area)


class CostModel:
    """T(padded shape, count): the seconds of a run of `count` images, each of `padded_shape` (height, width).

    Of each padded_shape a line over the count, through the medians of what was measured; a padded_shape of which one
    count or none
    is known leans on a line over the pixels of all recent runs. Written by the thread of one device, read by any: what
    a reader sees is replaced, never changed.
    """

    def __init__(self) -> None:
        self.relative_error = 0.0
        """Mean of |predicted - measured| / measured over the last runs that could be predicted."""
        self._fits: OrderedDict[tuple[int, int], _Fit] = OrderedDict()
        self._lines: dict[tuple[int, int], Line] = {}
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_RUNS)
        self._by_pixels = Line(0.0, 0.0)
        self._least_pixels = 0
        self._is_told = False
        self._runs = 0
        self._predicted_runs = 0

    def observe(self, padded_shape: tuple[int, int], count: int, seconds: float) -> None:
        """Learn that a run of `count` images of `padded_shape` took `seconds`."""
        predicted, seconds = self.predict(padded_shape, count), max(seconds, SHORTEST_S)
        if predicted > 0:
            error = abs(predicted - seconds) / seconds
            self._predicted_runs += 1
            self.relative_error += (error - self.relative_error) / min(self._predicted_runs, ERROR_RUNS)
        self._runs += 1
        area = padded_shape[0] * padded_shape[1]
        self._recent.append((count * area, seconds))
        if self._runs <= RECENT_RUNS or self._runs % RECENT_EVERY == 0:
            self._fit_by_pixels()
        fit = self._fits.setdefault(padded_shape, _Fit())
        fit.learn(count, seconds)
        self._lines[padded_shape] = fit.line(area, self._by_pixels)
        self._fits.move_to_end(padded_shape)
        if len(self._fits) > MOST_CANVASES:
            forgotten, _ = self._fits.popitem(last=False)
            del self._lines[forgotten]

    def _fit_by_pixels(self) -> None:
        sizes = [pixels for pixels, _ in self._recent]
        if max(sizes) >= TELLING_RATIO * min(sizes):
            self._by_pixels, self._least_pixels, self._is_told = _robust(self._recent), 0, True
        elif self._is_told:  # what other sizes told before still holds, as a proportion
            scale = median_low(seconds / self._by_pixels.at(pixels) for pixels, seconds in self._recent)
            self._by_pixels = Line(scale * self._by_pixels.fixed, scale * self._by_pixels.slope)
        else:  # fewer pixels may cost as much
            self._by_pixels, self._least_pixels = _robust(self._recent), min(sizes)

    def predict(self, padded_shape: tuple[int, int], count: int) -> float:
        """Predict the seconds that `count` images of `padded_shape` take in one run; 0 while nothing was measured."""
        line = self._lines.get(padded_shape)
        if line is not None:
            return line[0] + line[1] * count
        line = self._by_pixels
        return line[0] + line[1] * max(count * padded_shape[0] * padded_shape[1], self._least_pixels)

    def fits(self) -> list[tuple[tuple[int, int], Line, int]]:
        """Each padded shape seen, with T as a line over the count and the number of its runs; the last seen first."""
        return [
            (padded_shape, self._lines[padded_shape], fit.runs)
            for padded_shape, fit in reversed(self._fits.copy().items())
        ]


def fitted(points: Iterable[tuple[float, float, float]]) -> Line:
    """The line of least squares of relative errors through (x, seconds, weight), all positive; so are its parts."""
    w = wx = wy = wxx = wxy = 0.0
    for x, y, weight in points:
        v = weight / (y * y)
        w, wx, wy, wxx, wxy = w + v, wx + v * x, wy + v * y, wxx + v * x * x, wxy + v * x * y
    spread = w * wxx - wx * wx
    if spread > 1e-9 * w * wxx:
        slope = (w * wxy - wx * wy) / spread
        fixed = (wy - slope * wx) / w
        if slope < 0:
            return Line(wy / w, 0.0)
        if fixed >= 0:
            return Line(fixed, slope)
    return Line(0.0, wxy / wxx)


def _robust(runs: Iterable[tuple[int, float]]) -> Line:
    """A line through (pixels, seconds), fitted again without the slow runs that are far off, a quarter at most."""
    points = [(float(pixels), seconds, 1.0) for pixels, seconds in runs]
    line = fitted(points)
    for _ in range(2):
        errors = [abs(line.at(x) - y) / y for x, y, _ in points]
        limit = max(SOUND_ERROR, 3 * median_low(errors), sorted(errors)[len(errors) * 3 // 4 - 1])
        line = fitted([point for point, error in zip(points, errors, strict=True) if error <= limit] or points)
    return line
