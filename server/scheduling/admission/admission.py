"""The Admission: which tiles are refused before they wait, and when their clients may come back."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial

from server.errors import DeadlineExceeded, DeadlineUnmet, QueueFull
from server.scheduling.admission import backlog
from server.scheduling.admission.backlog import MixedSizeSavings
from server.scheduling.policy.device import Device
from server.scheduling.policy.padded_shapes import PaddedShapes
from server.scheduling.queue.tile import PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

# A client told to come back sooner would most likely be refused again.
MIN_RETRY_AFTER_S = 1.0
# The quantile of the prediction error that the bound allows for, the step size of its estimator as a part of the bound,
# and the part of the bound from which on predicted waits teach it.
QUANTILE, STEP, LONG_WAIT = 0.99, 0.001, 0.5
# The largest margin, as a part of the bound: some long waits must still be admitted, to learn from.
LARGEST_MARGIN = 0.4
# What mixed-size batches save counts in full for the bound on the backlog. A deadline is a promise, and when each head
# leaves time only for a small run, little is shared: there it counts in part, and this many full runs must fit as well.
CREDIT = 0.75
SPARE_RUNS = 2
ADMITTED = "what was admitted before"


class WaitBound:
    """Rejects requests whose predicted wait exceeds `seconds`, with a margin learned so that about 99 % of the admitted
    ones meet it.

    The margin follows a high quantile of the prediction errors. They stand for what no prediction knows: gaps between
    runs, tiles that joined them, other users of the processors.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lateness_s = 0.0
        """The margin: how much later than predicted nearly all long waits end."""

    def allows(self, predicted_s: float) -> bool:
        """Tell whether a predicted wait is within the bound."""
        return predicted_s + self.lateness_s <= self.seconds

    def check(self, predicted_s: float, what: str) -> None:
        """Raise QueueFull if a predicted wait is too long; `what` is the subject of the message."""
        if not self.allows(predicted_s):
            wait_s = predicted_s + self.lateness_s
            retry_after_s = max(MIN_RETRY_AFTER_S, wait_s - self.seconds)
            raise QueueFull(f"{what} takes {wait_s:.1f} s already", retry_after_s)

    def learn(self, predicted_s: float, took_s: float) -> None:
        """Learn how long a predicted wait took; short waits say nothing about the bound."""
        if predicted_s > LONG_WAIT * self.seconds:
            late = took_s - predicted_s > self.lateness_s
            step = STEP * self.seconds * (QUANTILE if late else QUANTILE - 1)
            self.lateness_s = min(max(0.0, self.lateness_s + step), LARGEST_MARGIN * self.seconds)


class Admission:
    """Bounds the waiting tiles: their pixels by the queue's memory, their time by `max_backlog_s` and by deadlines.

    While a device is idle and nothing waits, any tile is admitted that its deadline allows. A series of tiles counts as
    a whole from its beginning: its tiles that are still to come are `reserved`.
    """

    def __init__(
        self, queue: TileQueue, devices: Mapping[str, Device], max_backlog_s: float, padded_shapes: PaddedShapes
    ) -> None:
        self.bound = WaitBound(max_backlog_s)
        self.reserved: dict[Priority, Counter[PaddedShape]] = {priority: Counter() for priority in Priority}
        """Tiles that are admitted and not yet queued, by class and padded shape."""
        self._single_pixels = self._series_pixels = 0
        self._queue = queue
        self._devices = devices
        self._savings = MixedSizeSavings(queue, self.reserved, padded_shapes)

    def changed(self, padded_shape: PaddedShape) -> None:
        """Update the predictions because the waiting or reserved tiles of a padded shape have changed."""
        bucket = self._queue.bucket(padded_shape)
        interactive, total = (0, 0) if bucket is None else (len(bucket.classes[0]), len(bucket))
        interactive += self.reserved[Priority.INTERACTIVE][padded_shape]
        total += sum(counts[padded_shape] for counts in self.reserved.values())
        for device in self._devices.values():
            device.price(padded_shape, interactive, total)
        self._savings.changed()

    def reserve(self, padded_shape: PaddedShape, count: int, priority: Priority, *, alone: bool = False) -> None:
        """Count `count` more tiles as backlog, or fewer if negative; `alone` for a tile that is not one of a series."""
        counts = self.reserved[priority]
        counts[padded_shape] += count
        if not counts[padded_shape]:
            del counts[padded_shape]
        if alone:
            self._single_pixels += count * padded_shape.pixels
        else:
            self._series_pixels += count * padded_shape.pixels
        self.changed(padded_shape)

    def drain_s(self, priority: Priority, now: float) -> float:
        """Predict the seconds until all admitted tiles of `priority` and above are done."""
        return backlog.drain_s(self._devices.values(), priority, now, self._saved(priority))

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
        held = self._queue.pixels + self._single_pixels
        if count is None:
            self._check_room(padded_shape.pixels, held, now)
        else:  # the tiles of a series take no room from single ones
            self._check_room(count * padded_shape.pixels, held + self._series_pixels, now)
        patience = math.inf if deadline is None else deadline - now
        parts = (devices, padded_shape, self._ahead_of(padded_shape, priority), priority, now, count or 1)
        seconds = promised = backlog.answered_s(*parts)
        refused = seconds > patience or not self.bound.allows(seconds)
        if refused and any(device.mixes_any for device in devices):  # savings are worth estimating for these alone
            apart, seconds = seconds, backlog.answered_s(*parts, self._saved(priority))
            spare = SPARE_RUNS * max(device.predict(padded_shape, device.room(padded_shape)) for device in devices)
            promised = min(apart, apart - CREDIT * (apart - seconds) + spare)
        if promised > patience:
            self._refuse_deadline(padded_shape, patience, promised)
        if self._is_waited or not any(device.is_idle for device in devices):
            self.bound.check(seconds, ADMITTED)
        return seconds

    def check_any(self, arriving: int, now: float) -> None:
        """Raise QueueFull if an interactive tile of the usual size would be refused behind `arriving` others."""
        devices = self._devices.values()
        if not devices or not (self._is_waited or arriving):
            return
        self._check_room(1, self._queue.pixels + self._single_pixels, now)
        usual_s = backlog.usual_s(devices, arriving + 1)
        if not self.bound.allows(backlog.drain_s(devices, Priority.INTERACTIVE, now) + usual_s):
            self.bound.check(self.drain_s(Priority.INTERACTIVE, now) + usual_s, ADMITTED)

    def learn(self, tile: Tile, now: float) -> None:
        """Learn from an answered tile how late its answer was."""
        # With deadlines and in the batch class others may have overtaken it, or it them.
        if tile.expected_at is not None and tile.deadline is None and tile.priority is Priority.INTERACTIVE:
            self.bound.learn(tile.expected_at - tile.enqueued_at, now - tile.enqueued_at)

    @property
    def _is_waited(self) -> bool:
        return self._queue.tiles > 0 or any(self.reserved.values())

    def _saved(self, priority: Priority) -> backlog.Saved:
        return partial(self._savings.saved_s, priority=priority)

    def _ahead_of(self, padded_shape: PaddedShape, priority: Priority) -> int:
        """Return how many tiles of a shape would leave before a new one of a class."""
        bucket = self._queue.bucket(padded_shape)
        ahead = sum(counts[padded_shape] for class_, counts in self.reserved.items() if class_ <= priority)
        if bucket is None:
            return ahead
        return ahead + (len(bucket.classes[0]) if priority is Priority.INTERACTIVE else len(bucket))

    def _check_room(self, pixels: int, held: int, now: float) -> None:
        if not self._is_waited or held + pixels <= self._queue.max_pixels:
            return
        excess = held + pixels - self._queue.max_pixels
        seconds = self.drain_s(Priority.BATCH, now) * min(1.0, excess / max(1, held))
        raise QueueFull(f"{self._queue.tiles} images wait already", max(MIN_RETRY_AFTER_S, seconds))

    def _refuse_deadline(self, padded_shape: PaddedShape, patience_s: float, seconds: float) -> None:
        alone = min(device.predict(padded_shape, 1) for device in self._devices.values())
        if alone > patience_s:
            raise DeadlineExceeded(f"a run of this image alone takes {alone:.3f} s, longer than its deadline allows")
        raise DeadlineUnmet(
            f"with what was admitted before, the answer would take {seconds:.3f} s",
            retry_after_s=max(MIN_RETRY_AFTER_S, seconds - patience_s),
        )
