"""The Admission: which tiles are refused before they wait, and when they may come back."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial

from server.errors import DeadlineExceeded, DeadlineUnmet, QueueFull
from server.scheduling.admission import backlog
from server.scheduling.admission.pooling import Pooling
from server.scheduling.admission.wait_bound import MIN_RETRY_AFTER_S, WaitBound
from server.scheduling.policy.device import Device
from server.scheduling.policy.padded_shapes import PaddedShapes
from server.scheduling.queue.tile import PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

# What sharing saves counts in full for the bound on the backlog. A deadline is a promise, and of a full queue little is
# shared where each head leaves time for a small run only: it counts in part, and so many full runs must fit in as well.
CREDIT = 0.75
SPARE_RUNS = 2
ADMITTED = "what was admitted before"


class Admission:
    """Bounds what waits: its pixels by the queue's memory, its time by `max_backlog_s` and by the tile's deadline.

    While a device is idle and nothing waits, any tile is taken that its deadline does not forbid. A series of tiles
    counts as a whole, from its beginning: those of its tiles that are still to come are `reserved`.
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
        self._pooling = Pooling(queue, self.reserved, padded_shapes)

    def changed(self, padded_shape: PaddedShape) -> None:
        """Take note of how many tiles of a padded shape wait or are reserved by now."""
        bucket = self._queue.bucket(padded_shape)
        interactive, total = (0, 0) if bucket is None else (len(bucket.classes[0]), len(bucket))
        interactive += self.reserved[Priority.INTERACTIVE][padded_shape]
        total += sum(counts[padded_shape] for counts in self.reserved.values())
        for device in self._devices.values():
            device.price(padded_shape, interactive, total)
        self._pooling.changed()

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
        """Predicted seconds until all admitted tiles of `priority` and above are done."""
        saved = partial(self._pooling.saved_s, priority=priority)
        return backlog.drain_s(self._devices.values(), priority, now, saved)

    def check(
        self,
        padded_shape: PaddedShape,
        deadline: float | None,
        priority: Priority,
        now: float,
        count: int | None = None,
    ) -> float:
        """Raise what a tile that arrives now is refused with, if it is, or a series of `count` tiles of the batch
        class.

        Returns the predicted seconds until it would be answered. `deadline` and `now` are on the batcher's clock.
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
        bucket = self._queue.bucket(padded_shape)
        waiting = 0 if bucket is None else len(bucket.classes[0]) if priority is Priority.INTERACTIVE else len(bucket)
        waiting += sum(counts[padded_shape] for class_, counts in self.reserved.items() if class_ <= priority)
        patience = math.inf if deadline is None else deadline - now
        parts = (devices, padded_shape, waiting, priority, now, count or 1)
        seconds = promised = backlog.answered_s(*parts)
        refused = seconds > patience or not self.bound.allows(seconds)
        if refused and any(device.masks for device in devices):  # what sharing saves is worth knowing for these alone
            apart, seconds = seconds, backlog.answered_s(*parts, partial(self._pooling.saved_s, priority=priority))
            spare = SPARE_RUNS * max(device.predict(padded_shape, device.room(padded_shape)) for device in devices)
            promised = min(apart, apart - CREDIT * (apart - seconds) + spare)
        if promised > patience:
            self._refuse_deadline(padded_shape, patience, promised)
        if self._is_waited or not any(device.is_idle for device in devices):
            self.bound.check(seconds, ADMITTED)
        return seconds

    def check_any(self, arriving: int, now: float) -> None:
        """Raise QueueFull where an interactive tile of the usual size would be refused behind `arriving` others."""
        devices = self._devices.values()
        if not devices or not (self._is_waited or arriving):
            return
        self._check_room(1, self._queue.pixels + self._single_pixels, now)
        usual_s = backlog.usual_s(devices, arriving + 1)
        if not self.bound.allows(backlog.drain_s(devices, Priority.INTERACTIVE, now) + usual_s):
            self.bound.check(self.drain_s(Priority.INTERACTIVE, now) + usual_s, ADMITTED)

    def learn(self, tile: Tile, now: float) -> None:
        """Learn from a tile that has its answer how late that is."""
        # With deadlines and in the batch class others may have overtaken it, or it them.
        if tile.expected_at is not None and tile.deadline is None and tile.priority is Priority.INTERACTIVE:
            self.bound.learn(tile.expected_at - tile.enqueued_at, now - tile.enqueued_at)

    @property
    def _is_waited(self) -> bool:
        return self._queue.tiles > 0 or any(self.reserved.values())

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
