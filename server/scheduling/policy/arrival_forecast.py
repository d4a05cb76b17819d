"""The ArrivalForecast: how soon clients that were answered send their next tile."""

import math
from bisect import bisect_right, insort
from collections import deque

from server.scheduling.queue.tile import PaddedShape

# The last turnarounds are the forecast for the next ones; eight clients replace all of them in eight runs.
MEMORY = 64
# Who has not come back by then is not waited for; far above what any run's fixed cost is worth.
FORGET_S = 2.0
# No thread wakes up more precisely.
SHORTEST_S = 1e-4
# Of the turnarounds, only so many moments are tried as the end of a wait.
MOMENTS = 8


class ArrivalForecast:
    """Matches each arrival with the oldest answer of its padded shape that has none yet, and remembers the time
    between.

    With clients that send one tile after another, the answers of a run come back as a burst of arrivals; with arrivals
    that have nothing to do with answers the times are spread out, and no forecast made of them is worth a wait.
    """

    def __init__(self) -> None:
        self._answers: dict[PaddedShape, deque[list[float]]] = {}  # [when, how many are still out], oldest first
        self._turnarounds: deque[float] = deque()
        self._sorted: list[float] = []

    def answered(self, padded_shape: PaddedShape, count: int, now: float) -> None:
        """Note that `count` tiles of `padded_shape` have their answer."""
        answers = self._answers.setdefault(padded_shape, deque())
        answers.append([now, count])
        self._forget(answers, now)

    def arrived(self, padded_shape: PaddedShape, now: float) -> None:
        """Note a tile, admitted or not."""
        answers = self._answers.get(padded_shape)
        if answers is None:
            return
        self._forget(answers, now)
        if not answers:
            del self._answers[padded_shape]
            return
        self._remember(now - answers[0][0])
        answers[0][1] -= 1
        if not answers[0][1]:
            answers.popleft()

    def out(self, padded_shape: PaddedShape, now: float) -> list[tuple[float, int]]:
        """The answers without an arrival yet: age in seconds, and how many."""
        return [
            (now - when, int(count)) for when, count in self._answers.get(padded_shape, ()) if now - when < FORGET_S
        ]

    def expected(self, out: list[tuple[float, int]], start_s: float, end_s: float) -> float:
        """Mean number of arrivals between `start_s` and `end_s` from now."""
        return sum(count * self._share(age, start_s, end_s) for age, count in out)

    def probability_of_none(self, out: list[tuple[float, int]], start_s: float, end_s: float) -> float:
        return math.prod((1 - self._share(age, start_s, end_s)) ** count for age, count in out)

    def moments(self, out: list[tuple[float, int]], end_s: float) -> list[float]:
        """Seconds from now, below `end_s`, at which arrivals are due: where it may pay to end a wait."""
        times = sorted({t - age for age, _ in out for t in self._sorted if SHORTEST_S < t - age < end_s})
        step = max(1, len(times) // MOMENTS)
        return times[::-1][::step][::-1]

    def _share(self, age: float, start_s: float, end_s: float) -> float:
        """Of those who are still out after `age`, the share that comes between two times from now."""
        times = self._sorted
        left = len(times) - bisect_right(times, age)
        if not left:
            return 0.0
        return (bisect_right(times, age + end_s) - bisect_right(times, age + start_s)) / left

    def _forget(self, answers: deque[list[float]], now: float) -> None:
        while answers and now - answers[0][0] >= FORGET_S:
            for _ in range(min(MEMORY, int(answers[0][1]))):
                self._remember(math.inf)
            answers.popleft()

    def _remember(self, seconds: float) -> None:
        if len(self._turnarounds) == MEMORY:
            oldest = self._turnarounds.popleft()
            del self._sorted[bisect_right(self._sorted, oldest) - 1]
        self._turnarounds.append(seconds)
        insort(self._sorted, seconds)
