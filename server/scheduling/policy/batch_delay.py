"""The batch delay: whether a run that is not full waits for clients that, by the arrival forecast, return soon."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from server.scheduling.policy.device import Capacity, DeviceView, Wait
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import BucketView

# Turnarounds that the forecast remembers: eight clients replace all of them in eight runs.
MEMORY = 64
# A client that has not returned by then is not waited for; far above what the fixed cost of any run is worth.
FORGET_S = 2.0
# No thread wakes up more precisely.
SHORTEST_S = 1e-4
# The most moments that are tried as the end of a wait.
MOMENTS = 8
# Waiting for a full run must raise the throughput by more than the forecast may be wrong.
WORTHWHILE = 1.03
# A run whose fixed part is shorter does not wait: to forecast takes a tenth of a millisecond of Python.
LEAST_SAVING_S = 5e-4
# A wait may take this many times as long as forecast: the tile that completes the run may be a little late.
SLACK = 1.5


class Forecast(NamedTuple):
    """What is expected of one padded shape, as plain data. All times are seconds from now."""

    answers: tuple[tuple[float, int], ...]
    """Answers whose clients have not returned yet: their age (negative for a run that has not ended) and number."""
    turnarounds: tuple[float, ...]
    """Times from earlier answers to the arrivals that followed, sorted; infinite for clients that did not return."""

    def expected(self, start_s: float, end_s: float) -> float:
        """Return the mean number of arrivals between two times."""
        return sum(count * self._shares(age, (start_s,), end_s)[0] for age, count in self.answers)

    def probabilities_of_none(self, starts_s: Sequence[float], end_s: float) -> list[float]:
        """Return for each start the probability that no tile arrives between it and the end."""
        none = [1.0] * len(starts_s)
        for age, count in self.answers:
            shares = self._shares(age, starts_s, end_s)
            none = [so_far * (1 - share) ** count for so_far, share in zip(none, shares, strict=True)]
        return none

    def moments(self, end_s: float) -> list[float]:
        """Return times before `end_s` at which arrivals are due, where it may pay to end a wait."""
        turnarounds, due = self.turnarounds, set[float]()
        for age, _ in self.answers:
            first, end = bisect_right(turnarounds, age + SHORTEST_S), bisect_left(turnarounds, age + end_s)
            due.update([time - age for time in turnarounds[first:end]])
        times = sorted(due)
        step = max(1, len(times) // MOMENTS)
        return times[::-1][::step][::-1]

    def _shares(self, age: float, starts_s: Sequence[float], end_s: float) -> list[float]:
        """Return for each start which part of the clients still out after `age` returns between it and the end."""
        times = self.turnarounds
        left = len(times) - bisect_right(times, age)
        if not left:
            return [0.0] * len(starts_s)
        until = bisect_right(times, age + end_s)
        return [(until - bisect_right(times, age + start_s)) / left for start_s in starts_s]


NOBODY = Forecast((), ())
"""The forecast where no client is expected back."""


class ArrivalForecast:
    """Learns turnarounds: matches each arrival with the oldest answer of its padded shape that has none yet.

    With clients that send one tile after another, the answers of a run come back as a burst of arrivals. Arrivals that
    have nothing to do with answers give turnarounds so spread out that no wait based on them pays.
    """

    def __init__(self) -> None:
        self._answers: dict[PaddedShape, deque[list[float]]] = {}  # [when, clients still out], oldest first
        self._turnarounds: deque[float] = deque()
        self._sorted: list[float] = []

    def answered(self, padded_shape: PaddedShape, count: int, now: float) -> None:
        """Note that `count` tiles of `padded_shape` have their answer."""
        answers = self._answers.setdefault(padded_shape, deque())
        answers.append([now, count])
        self._forget(answers, now)

    def arrived(self, padded_shape: PaddedShape, now: float) -> None:
        """Note a new tile, admitted or not."""
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

    def forecast(self, padded_shape: PaddedShape, now: float) -> Forecast:
        """Return what is expected of a padded shape from `now` on."""
        answers = self._answers.get(padded_shape, ())
        ages = [(now - when, int(count)) for when, count in answers if now - when < FORGET_S]
        return Forecast(tuple(ages), tuple(self._sorted))

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


def may_pay(padded_shape: PaddedShape, device: Capacity) -> bool:
    """Tell whether a run of `padded_shape` that waits may save enough: at most the fixed part of another run."""
    return device.predict(padded_shape, 0) >= LEAST_SAVING_S


def batch_delay(
    bucket: BucketView, count: int, seconds: float, device: DeviceView, forecast: Forecast, now: float
) -> Wait | None:
    """Decide how long a run of `count` tiles of the only bucket waits for more of them; None: it starts at once.

    It waits only if clients that were just answered are expected back so soon that the wait costs less time than the
    extra run that it saves. All waits for one run together are never longer than the fixed cost of that extra run.
    """
    padded_shape, start_s = bucket.padded_shape, device.remaining_s
    room = device.room(padded_shape)
    if count >= room or count < bucket.tiles:  # full, or cut: more tiles wait than it takes
        return None
    running = [(-start_s, images) for shape, images in device.running if shape == padded_shape]
    forecast = Forecast((*forecast.answers, *running), forecast.turnarounds) if running else forecast
    if not forecast.answers:
        return None
    end_s = start_s + seconds
    more = round(forecast.expected(0.0, end_s))
    joined = min(count + more, room)
    if joined == count:
        return None
    together = device.predict(padded_shape, joined)
    saving = seconds + device.predict(padded_shape, joined - count) - together
    longest = start_s + saving - device.delayed_s
    if bucket.deadline is not None:
        longest = min(longest, bucket.deadline - now - together)
    moments = forecast.moments(longest)
    if count + more <= room:
        at_once, *alone = forecast.probabilities_of_none([start_s, *moments], end_s)
        gains = [
            (saving * (probability - at_once) - max(0.0, moment - start_s), moment)
            for probability, moment in zip(alone, moments, strict=True)
        ]
        gain, best = max(gains, default=(0.0, 0.0))
        moment = best if gain > 0 else None
    else:
        # Two runs in any case: full ones with a pause between them, or a small and a large one without.
        rate = (count + more) / (seconds + device.predict_all(padded_shape, more))
        full = (moment for moment in moments if forecast.expected(0.0, moment) >= room - count)
        pauses = ((moment, max(0.0, moment - start_s)) for moment in full)
        moment = next((moment for moment, pause in pauses if room / (pause + together) > WORTHWHILE * rate), None)
    return None if moment is None else Wait(min(longest, SLACK * moment), padded_shape, joined)
