"""The Admission: which tiles are refused before they wait, and the Ticket for the places of those that are not."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, ValuesView
from functools import partial
from types import TracebackType
from typing import Self

from server.backends.base import Pixels
from server.errors import DeadlineExceeded, DeadlineUnmet, QueueFull
from server.metrics import Metrics
from server.scheduling.admission import backlog
from server.scheduling.admission.backlog import MIN_RETRY_AFTER_S, MixedSizeSavings, WaitBound
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import PaddedShapes
from server.scheduling.queue.tile import Completion, PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

Submit = Callable[..., Awaitable[Completion]]
"""`Batcher.submit`."""

# What mixed-size batches save counts in full for the bound on the backlog. A deadline is a promise, and when each head
# leaves time only for a small run, little is shared: there it counts in part, and this many full runs must fit as well.
CREDIT = 0.75
SPARE_RUNS = 2
MOST_UNPRICED = 64  # padded shapes that have changed since the last prediction, of which a quiet server makes few
ADMITTED = "what was admitted before"


class Admission:
    """Bounds the waiting tiles: their pixels by the queue's memory, their time by `max_backlog_s` and by deadlines.

    While a device is idle and nothing waits, any tile is admitted that its deadline allows. A series of tiles counts as
    a whole from its beginning: its tiles that are still to come are `reserved`. `changed`, `drain_s`, `check` and
    `learn` are for the batcher, under the queue's lock.
    """

    def __init__(
        self,
        queue: TileQueue,
        devices: Mapping[str, Device],
        max_backlog_s: float,
        padded_shapes: PaddedShapes,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.lock = queue.lock
        self.bound = WaitBound(max_backlog_s)
        self.reserved: dict[Priority, Counter[PaddedShape]] = {priority: Counter() for priority in Priority}
        """Tiles that are admitted and not yet queued, by class and padded shape."""
        self._single_pixels = self._series_pixels = 0
        self._unpriced = set[PaddedShape]()
        self._queue = queue
        self._devices = devices
        self._metrics, self._clock = metrics, clock
        self._savings = MixedSizeSavings(queue, self.reserved, padded_shapes)

    def changed(self, padded_shape: PaddedShape) -> None:
        """Note that the waiting or reserved tiles of a padded shape have changed, for the next prediction."""
        self._unpriced.add(padded_shape)
        if len(self._unpriced) > MOST_UNPRICED:
            self._priced()
        self._savings.changed()

    def _priced(self) -> ValuesView[Device]:
        """Return the devices, with predictions for all that waits now."""
        while self._unpriced:
            padded_shape = self._unpriced.pop()
            bucket = self._queue.bucket(padded_shape)
            interactive, total = (0, 0) if bucket is None else (len(bucket.classes[0]), len(bucket))
            first, second = [counts.get(padded_shape, 0) for counts in self.reserved.values()]
            for device in self._devices.values():
                device.price(padded_shape, interactive + first, total + first + second)
        return self._devices.values()

    def admit(
        self,
        padded_shape: PaddedShape,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        count: int | None = None,
    ) -> float:
        """Return when a tile, or a series of `count` tiles, would be answered; reserves nothing, which a `Ticket` does.

        Raises QueueFull, DeadlineUnmet, DeadlineExceeded, NotReady or Draining.
        """
        with self._metrics.refusals, self.lock:
            now = self._clock()
            return now + self.check(padded_shape, deadline, priority, now, count)

    def admit_any(self, arriving: int) -> None:
        """Raise QueueFull if an interactive tile of the usual size would be refused behind `arriving` others."""
        if arriving or self._queue.tiles:
            with self._metrics.refusals, self.lock:
                self._check_any(arriving, self._clock())

    def reserve(
        self, padded_shape: PaddedShape, count: int, priority: Priority = Priority.BATCH, *, alone: bool = False
    ) -> None:
        """Count `count` more tiles as backlog that are admitted and not yet queued; fewer if negative.

        `alone` is for a tile that is not one of a series.
        """
        with self.lock:
            self._reserve(padded_shape, count, priority, alone=alone)
            self.changed(padded_shape)

    def redeem(self, padded_shape: PaddedShape, priority: Priority, *, alone: bool) -> None:
        """Count one reserved tile less because it enters the queue: together they stay as many, and take as long."""
        with self.lock:
            self._reserve(padded_shape, -1, priority, alone=alone)
            self._savings.changed()

    def drain_s(self, priority: Priority, now: float) -> float:
        """Predict the seconds until all admitted tiles of `priority` and above are done."""
        return backlog.drain_s(self._priced(), priority, now, self._saved(priority))

    def check(
        self,
        padded_shape: PaddedShape,
        deadline: float | None,
        priority: Priority,
        now: float,
        count: int | None = None,
    ) -> float:
        """Raise the refusal of a tile that arrives now, or of a series of `count` batch tiles, if there is one.

        Returns the predicted seconds until the answer. `deadline` and `now` are on the batcher's clock.
        """
        self._queue.check_open()
        if deadline is not None and deadline <= now:
            raise DeadlineExceeded("the deadline had passed before the image was queued")
        devices = self._devices.values()
        if deadline is None and count is None and not self._is_waited and (idle := [d for d in devices if d.is_idle]):
            return min(device.predict(padded_shape, 1) for device in idle)
        devices = self._priced()
        held = self._queue.pixels + self._single_pixels
        if count is None:
            self._check_room(padded_shape.pixels, held, now)
        else:  # the tiles of a series take no room from single ones
            self._check_room(count * padded_shape.pixels, held + self._series_pixels, now)
        patience = math.inf if deadline is None else deadline - now
        parts = (devices, padded_shape, self._ahead_of(padded_shape, priority), priority, now, count or 1)
        seconds = promised = backlog.answered_s(*parts)
        if seconds <= patience and self.bound.allows(seconds):
            return seconds
        if any(device.mixes_any for device in devices):  # savings are worth estimating for these alone
            apart, seconds = seconds, backlog.answered_s(*parts, self._saved(priority))
            spare = SPARE_RUNS * max(device.predict(padded_shape, device.room(padded_shape)) for device in devices)
            promised = min(apart, apart - CREDIT * (apart - seconds) + spare)
        if promised > patience:
            self._refuse_deadline(padded_shape, patience, promised)
        if self._is_waited or not any(device.is_idle for device in devices):
            self.bound.check(seconds, ADMITTED)
        return seconds

    def learn(self, tile: Tile, now: float) -> None:
        """Learn from an answered tile how late its answer was."""
        # With deadlines and in the batch class others may have overtaken it, or it them.
        if tile.expected_at is not None and tile.deadline is None and tile.priority is Priority.INTERACTIVE:
            self.bound.learn(tile.expected_at - tile.enqueued_at, now - tile.enqueued_at)

    @property
    def _is_waited(self) -> bool:
        return self._queue.tiles > 0 or any(self.reserved.values())

    def _reserve(self, padded_shape: PaddedShape, count: int, priority: Priority, *, alone: bool) -> None:
        counts, pixels = self.reserved[priority], count * padded_shape[0] * padded_shape[1]
        left = counts[padded_shape] = counts.get(padded_shape, 0) + count
        if not left:
            del counts[padded_shape]
        if alone:
            self._single_pixels += pixels
        else:
            self._series_pixels += pixels

    def _check_any(self, arriving: int, now: float) -> None:
        devices = self._devices.values()
        if not devices or not (self._is_waited or arriving):
            return
        self._check_room(1, self._queue.pixels + self._single_pixels, now)
        usual_s = backlog.usual_s(devices, arriving + 1)
        if not self.bound.allows(backlog.drain_s(self._priced(), Priority.INTERACTIVE, now) + usual_s):
            self.bound.check(self.drain_s(Priority.INTERACTIVE, now) + usual_s, ADMITTED)

    def _saved(self, priority: Priority) -> backlog.Saved:
        return partial(self._savings.saved_s, priority=priority)

    def _ahead_of(self, padded_shape: PaddedShape, priority: Priority) -> int:
        """Return how many tiles of a shape would leave before a new one of a class."""
        bucket = self._queue.bucket(padded_shape)
        ahead = self.reserved[Priority.INTERACTIVE].get(padded_shape, 0)
        if priority is Priority.BATCH:
            ahead += self.reserved[Priority.BATCH].get(padded_shape, 0)
        if bucket is None:
            return ahead
        return ahead + (len(bucket.classes[0]) if priority is Priority.INTERACTIVE else len(bucket))

    def _check_room(self, pixels: int, held: int, now: float) -> None:
        if held + pixels <= self._queue.max_pixels or not self._is_waited:
            return
        excess = held + pixels - self._queue.max_pixels
        seconds = self.drain_s(Priority.BATCH, now) * min(1.0, excess / max(1, held))
        raise QueueFull(
            f"The images in progress have {held} pixels; with this one they would have more than the "
            f"{self._queue.max_pixels} that are accepted.",
            max(MIN_RETRY_AFTER_S, seconds),
        )

    def _refuse_deadline(self, padded_shape: PaddedShape, patience_s: float, seconds: float) -> None:
        alone = min(device.predict(padded_shape, 1) for device in self._devices.values())
        if alone > patience_s:
            raise DeadlineExceeded(f"a run of this image alone takes {alone:.3f} s, longer than its deadline allows")
        raise DeadlineUnmet(
            f"with what was admitted before, the answer would take {seconds:.3f} s",
            retry_after_s=max(MIN_RETRY_AFTER_S, seconds - patience_s),
        )


class Ticket:
    """Admits `count` tiles of one padded shape at the entry of its block: as a whole or not at all.

    From then on the tiles count as backlog and take up room in the queue. `submit` redeems one place without another
    check; the exit gives back the places that are left. The tiles of a photo are of the batch class, so a single image
    waits for the current run and not for the whole photo. With `at_once` the first tile waits for the last, so that an
    idle device does not start with one of them alone; all of them must come.
    """

    def __init__(
        self,
        admission: Admission,
        submit: Submit,
        padded_shape: PaddedShape,
        count: int,
        deadline: float | None,
        priority: Priority,
        *,
        at_once: bool,
    ) -> None:
        self._admission = admission
        self._submit = submit
        self._padded_shape = padded_shape
        self._count = count
        self._deadline = deadline
        self._priority = priority
        self._alone = count == 1
        self._left = 0
        self._expected_at: float | None = None
        self._gate = asyncio.Barrier(count) if at_once else None

    def __enter__(self) -> Self:
        """Hold the places; raises as `Admission.admit`."""
        count = None if self._alone else self._count
        with self._admission.lock:
            expected_at = self._admission.admit(self._padded_shape, self._deadline, self._priority, count)
            self._hold(self._count)
        if self._alone:
            self._expected_at = expected_at
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give back the places that are left; further calls do nothing."""
        if self._left:
            self._hold(-self._left)

    def move(self, padded_shape: PaddedShape) -> None:
        """Hold the places for another padded shape: an image lies on its side, which only its whole header tells."""
        left = self._left
        with self._admission.lock:
            self.release()
            self._padded_shape = padded_shape
            self._hold(left)

    def redeem(self) -> float | None:
        """Give up one place for a tile that enters the queue at once; returns when it is expected, if it is alone."""
        if not self._left:
            raise RuntimeError("a ticket has no place left")
        self._admission.redeem(self._padded_shape, self._priority, alone=self._alone)
        self._left -= 1
        return self._expected_at

    async def submit(self, pixels: Pixels) -> Completion:
        """Wait for the restored copy of one tile; raises as `Batcher.submit`, except for load."""
        if self._gate is not None:
            await self._gate.wait()
        model = self._padded_shape.model
        return await self._submit(pixels, self._deadline, self._priority, model=model, ticket=self)

    def _hold(self, count: int) -> None:
        self._admission.reserve(self._padded_shape, count, self._priority, alone=self._alone)
        self._left += count
