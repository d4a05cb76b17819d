"""The CostModel: predicts the seconds of a run from what earlier runs took."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import NamedTuple

from server.scheduling.queue.tile import PaddedShape

# Runs of one padded shape and count: a median of five ignores two slow runs, and follows a change after three.
RUNS_A_POINT = 5
# The weight of a point halves with this many later runs of its padded shape.
HALF_LIFE_RUNS = 8.0
# Below the resolution of any clock, so that no divisor is zero.
SHORTEST_S = 1e-9
# For padded shapes that were never seen: enough to span sizes, few enough to fit in microseconds.
RECENT_RUNS = 48
# Uploads may have any size; only the shapes seen last are remembered.
MOST_SHAPES = 256
# Runs between two fits over the recent runs, once there are enough: it is the costliest part of a run's bookkeeping.
RECENT_EVERY = 16
# A line is fitted again once the runs since then took this long: a fit after each would take as long as tiny runs do.
REFIT_S = 1e-3
# Sizes that differ by less do not tell the fixed part of a run from the part that grows with its pixels.
TELLING_RATIO = 2.0
# Runs nearer to the line than this are never left out as outliers.
SOUND_ERROR = 0.02
# The mean error is over about this many runs.
ERROR_RUNS = 32


class Line(NamedTuple):
    """Seconds as `fixed + slope * x`; neither is negative."""

    fixed: float
    slope: float

    def at(self, x: float) -> float:
        """Return the seconds for `x`."""
        return self.fixed + self.slope * x


@dataclass(slots=True)
class _Point:
    """The times of the last runs of one count, their median, and when the last was, in runs of the padded shape."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RUNS_A_POINT))
    median: float = 0.0
    last: int = 0


@dataclass(slots=True)
class _Fit:
    """The points of one padded shape, by count."""

    points: dict[int, _Point] = field(default_factory=dict)
    runs: int = 0
    unfitted_s: float = math.inf
    """Seconds of the runs since the last fit; infinite where a fit is due."""

    def learn(self, count: int, seconds: float) -> bool:
        """Add a run; tell whether its line is to be fitted again."""
        self.runs += 1
        self.unfitted_s += seconds
        if (point := self.points.get(count)) is None:
            point, self.unfitted_s = self.points.setdefault(count, _Point()), math.inf
        point.seconds.append(seconds)
        point.median, point.last = median_low(point.seconds), self.runs
        return self.unfitted_s >= REFIT_S

    def line(self, area: int, by_pixels: Line) -> Line:
        """Fit seconds over the count; with a single known count, in the proportions of `by_pixels` for the area."""
        self.unfitted_s = 0.0
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


class Costs(NamedTuple):
    """The costs of runs, as they are known at one moment; a later fit makes a new object."""

    lines: Mapping[PaddedShape, Line]
    """Seconds by the count, of each padded shape seen."""
    by_pixels: Line
    """Seconds by the pixels of a run, for other shapes."""
    least_pixels: int = 0
    """Runs of fewer pixels are taken to cost as much as of these."""

    def predict(self, padded_shape: PaddedShape, count: int) -> float:
        """Predict the seconds that `count` images of `padded_shape` take in one run; 0 while nothing was measured."""
        line = self.lines.get(padded_shape)
        if line is not None:
            return line[0] + line[1] * count
        line = self.by_pixels
        return line[0] + line[1] * max(count * padded_shape[0] * padded_shape[1], self.least_pixels)


class CostModel:
    """Learns T(padded shape, count): the seconds of a run of `count` images of `padded_shape` by one model.

    For each padded shape it fits a line over the count through the medians of the measured times. A shape with one
    known count, or none, leans on a line over the pixels of all recent runs. Any thread may use it: while a device
    switches to another backend of one model, two threads run the other models.
    """

    def __init__(self) -> None:
        self.costs = Costs({}, Line(0.0, 0.0))
        """What is known now."""
        self.relative_error = 0.0
        """Mean of |predicted - measured| / measured over the last runs that could be predicted."""
        self._fits: OrderedDict[PaddedShape, _Fit] = OrderedDict()
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_RUNS)
        self._is_told = False
        self._runs = 0
        self._predicted_runs = 0
        self._lock = threading.Lock()

    def observe(self, padded_shape: PaddedShape, count: int, seconds: float) -> None:
        """Learn that a run of `count` images of `padded_shape` took `seconds`."""
        with self._lock:
            self._learn(padded_shape, count, seconds)

    def _learn(self, padded_shape: PaddedShape, count: int, seconds: float) -> None:
        predicted, seconds = self.predict(padded_shape, count), max(seconds, SHORTEST_S)
        if predicted > 0:
            error = abs(predicted - seconds) / seconds
            self._predicted_runs += 1
            self.relative_error += (error - self.relative_error) / min(self._predicted_runs, ERROR_RUNS)
        self._runs += 1
        area = padded_shape[0] * padded_shape[1]
        self._recent.append((count * area, seconds))
        _, by_pixels, least_pixels = self.costs
        if is_due := self._runs <= RECENT_RUNS or self._runs % RECENT_EVERY == 0:
            by_pixels, least_pixels = self._fit_by_pixels()
        fit = self._fits.setdefault(padded_shape, _Fit())
        self._fits.move_to_end(padded_shape)
        if not (fit.learn(count, seconds) or is_due):
            return
        lines = {**self.costs.lines, padded_shape: fit.line(area, by_pixels)}
        if len(self._fits) > MOST_SHAPES:
            forgotten, _ = self._fits.popitem(last=False)
            del lines[forgotten]
        self.costs = Costs(lines, by_pixels, least_pixels)

    def _fit_by_pixels(self) -> tuple[Line, int]:
        """Fit the line over the pixels of all recent runs; returns it, and the pixels below which it is flat."""
        sizes = [pixels for pixels, _ in self._recent]
        if max(sizes) >= TELLING_RATIO * min(sizes):
            self._is_told = True
            return _robust(self._recent), 0
        if self._is_told:  # what other sizes told before still holds, as a proportion
            by_pixels = self.costs.by_pixels
            scale = median_low(seconds / by_pixels.at(pixels) for pixels, seconds in self._recent)
            return Line(scale * by_pixels.fixed, scale * by_pixels.slope), self.costs.least_pixels
        return _robust(self._recent), min(sizes)  # fewer pixels may cost as much

    def predict(self, padded_shape: PaddedShape, count: int) -> float:
        """Predict the seconds that `count` images of `padded_shape` take in one run; 0 while nothing was measured."""
        return self.costs.predict(padded_shape, count)

    def fits(self) -> list[tuple[PaddedShape, Line, int]]:
        """Return each padded shape seen, T as a line over the count, and the number of its runs; latest first."""
        lines = self.costs.lines
        return [
            (padded_shape, lines[padded_shape], fit.runs) for padded_shape, fit in reversed(self._fits.copy().items())
        ]


def fitted(points: Iterable[tuple[float, float, float]]) -> Line:
    """Fit a line with no negative part through (x, seconds, weight), by least squares of relative errors."""
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
    """Fit a line through (pixels, seconds), and again without outliers, which are a quarter at most."""
    points = [(float(pixels), seconds, 1.0) for pixels, seconds in runs]
    line = fitted(points)
    for _ in range(2):
        errors = [abs(line.at(x) - y) / y for x, y, _ in points]
        limit = max(SOUND_ERROR, 3 * median_low(errors), sorted(errors)[len(errors) * 3 // 4 - 1])
        line = fitted([point for point, error in zip(points, errors, strict=True) if error <= limit] or points)
    return line
