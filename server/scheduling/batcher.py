"""The Batcher: turns waiting tiles into batches, as the planner decides, and wakes the devices that run them."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from server.backends.base import Pixels
from server.errors import DeadlineExceeded, NotReady
from server.metrics import Metrics
from server.scheduling.admission.admission import Admission, Ticket
from server.scheduling.policy.batch_delay import NOBODY, ArrivalForecast, may_pay
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import PaddedShapes
from server.scheduling.policy.planner import Run, State, plan, plan_lone
from server.scheduling.policy.wakes import Wakes
from server.scheduling.queue.tile import Batch, Completion, PaddedShape, Priority, Tile, fail_soon
from server.scheduling.queue.tile_queue import ShapeBucket, TileQueue
from server.scheduling.snapshot import Snapshot, snapshot_of

Clock = Callable[[], float]
"""Returns seconds that never go back."""


class Batcher:
    """Holds the queue's lock, shows the planner the present state, and carries out what it decides.

    It runs nothing itself. `submit` and tickets belong to the event loop; `poll`, `next_batch`, `expire` and `finished`
    to the thread of a device. Deadlines are seconds on `clock`.
    """

    def __init__(
        self,
        queue: TileQueue,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        max_backlog_s: float = math.inf,
        padded_shapes: Iterable[PaddedShape] = (),
    ) -> None:
        self.queue = queue
        self.devices: dict[str, Device] = {}
        """The devices that take work now, by name."""
        self._metrics, self._clock = metrics, clock
        self._arrivals = ArrivalForecast()
        self._padded_shapes = PaddedShapes(padded_shapes)
        self.admission = Admission(queue, self.devices, max_backlog_s, self._padded_shapes, metrics, clock)
        self._runs_since_batch = 0
        self._wakes = Wakes(self.devices, queue)
        queue.on_close = self._wakes.all
        metrics.watch_queue(lambda: queue.tiles, lambda: queue.pixels, self.backlog_s)

    @property
    def max_backlog_s(self) -> float:
        """The bound on the backlog, in predicted seconds."""
        return self.admission.bound.seconds

    def join(self, device: Device) -> None:
        """Give work to a warmed-up device from now on; the first one opens the queue.

        An earlier device of the same name gets no more work, and ends its current runs.
        """
        with self.queue.lock:
            device.wake = threading.Condition(self.queue.lock)
            before, self.devices[device.name] = self.devices.get(device.name), device
            if before is not None:
                before.wake.notify_all()
            waiting = {bucket.padded_shape for bucket in self.queue.buckets}
            for padded_shape in waiting.union(*self.admission.reserved.values()):
                self.admission.changed(padded_shape)
            self.queue.open()
        for name, model in device.models.items():
            self._metrics.watch_cost_model(device.name, name, partial(getattr, model.cost_model, "relative_error"))

    def leave(self, device: Device) -> list[Tile]:
        """Give no more work to a device that is lost or stops; returns its running tiles, for the caller to end.

        Without any device, further tiles are refused with NotReady; waiting tiles stay.
        """
        with self.queue.lock:
            stranded = self.queue.release_from(device)
            if not self._has(device):
                return stranded
            del self.devices[device.name]
            if not self.devices:
                self.queue.pause(lambda: NotReady("the server has no working backend at the moment"))
            device.running = ()
            self._wakes.all()
            device.wake.notify_all()
            return stranded

    def ticket(
        self,
        padded_shape: PaddedShape,
        count: int = 1,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        *,
        at_once: bool = False,
    ) -> Ticket:
        """Make the ticket for `count` tiles of a padded shape; entering it admits them."""
        return Ticket(self.admission, self.submit, padded_shape, count, deadline, priority, at_once=at_once)

    def useful_tiles(self, padded_shape: PaddedShape) -> int:
        """Return how many tiles of a padded shape keep all devices busy: those of two runs on each."""
        with self.queue.lock:
            return max(2, 2 * sum(device.room(padded_shape) for device in self.devices.values()))

    async def submit(
        self,
        pixels: Pixels,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        *,
        model: str = "",
        ticket: Ticket | None = None,
    ) -> Completion:
        """Wait for the copy of one tile that `model` restores: float32 (3, H, W), H and W of its size multiple.

        The tile takes up one of the places that `ticket` holds; without a ticket it is admitted here, which raises as
        `Admission.admit`. Raises DeadlineExceeded if the deadline passes before the run or no run could keep it;
        BackendError if the run fails. Cancelling the call takes the tile out of the queue; a run that has begun
        continues without it. The array must not change until then.
        """
        if pixels.dtype != np.float32 or pixels.ndim != 3 or pixels.shape[0] != 3:  # it would fail the whole batch
            raise ValueError(f"a tile is float32 (3, H, W), not {pixels.dtype} {pixels.shape}")
        loop = asyncio.get_running_loop()
        tile = Tile(pixels, loop.create_future(), self._clock(), deadline, priority, model=model)
        self.enqueue(tile, ticket)
        timer = None if deadline is None else loop.call_later(deadline - tile.enqueued_at, self._expire_waiting, tile)
        # Counted here, where the caller learns of it, so that a tile that expires as its caller leaves counts once.
        try:
            completion = await tile.future
            self.delivered(tile)
            return completion
        except DeadlineExceeded:
            self._metrics.count_dropped("expired")
            raise
        except asyncio.CancelledError:
            self.withdraw(tile)
            self._metrics.count_dropped("abandoned" if tile.taken else "cancelled")
            if tile.future.done() and not tile.future.cancelled():
                tile.future.exception()  # ended in the same turn of the loop: mark an error as seen
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def enqueue(self, tile: Tile, ticket: Ticket | None = None) -> None:
        """Put a new tile into the queue and have a device woken for it; raises as `submit`, at once."""
        padded_shape = tile.padded_shape
        with self._metrics.refusals, self.queue.lock:
            self._arrivals.arrived(padded_shape, tile.enqueued_at)
            self._padded_shapes.arrived(padded_shape)
            if ticket is None:
                seconds = self.admission.check(padded_shape, tile.deadline, tile.priority, tile.enqueued_at)
                tile.expected_at = tile.enqueued_at + seconds
            else:
                self.queue.check_open()
                tile.expected_at = ticket.redeem()
            self.queue.offer(tile, admitted=True)  # its room was checked with its admission
            if ticket is None:
                self.admission.changed(padded_shape)
            self._wakes.new_tile(tile)

    def delivered(self, tile: Tile) -> None:
        """Learn that a caller has its answer. Belongs to the event loop, whose delay is part of the wait."""
        self.admission.learn(tile, self._clock())

    def withdraw(self, tile: Tile) -> bool:
        """Take a tile out of the queue; False if it has left already."""
        with self.queue.lock:
            if discarded := self.queue.discard(tile):
                self.admission.changed(tile.padded_shape)
            return discarded

    def next_batch(self, device: Device) -> Batch | None:
        """Block until `device` has a batch to run; None once the queue is closed and empty, or the device has left."""
        with self.queue.lock:
            while self._has(device):
                if (batch := self.poll(device)) is not None:
                    return batch
                if self.queue.closed and not self.queue.tiles:
                    break
                pause = device.poll_at - self._clock()
                device.wake.wait(None if math.isinf(pause) else max(0.0, pause))
            return None

    def poll(self, device: Device, *, only_full: bool = False) -> Batch | None:
        """Return the batch that `device` runs now, or None if there is none or a wait pays; expired tiles end here.

        After None, `device.poll_at` says when to ask again even if nothing changes. With `only_full` it returns only a
        full batch, to begin while another runs; never of a model that takes one image in a batch.
        """
        # As after most runs (`next_batch` looks under the lock). Single images can be withdrawn as long as they wait.
        if (not self.queue.tiles and device.wait is None) or (only_full and device.runs_single_images):
            return None
        with self.queue.lock:
            if not self._has(device):  # abandoned or replaced: what it took would never end
                return None
            now = self._clock()
            if only_full and not self._fills(device, now):
                return None
            while self.queue.tiles:
                answer = self._lone_run(device, only_full) or plan(self._state(device, now, only_full))
                if not isinstance(answer, Run):
                    if not only_full:
                        device.waits(answer, now)
                        self._wakes.others(besides=device)
                    return None
                if (batch := self._take(answer, device, now)) is not None:
                    return batch
            device.waits(None, now)
            return None

    def expire(self, batch: Batch) -> None:
        """End the tiles of a batch begun early whose deadline has passed before its run could start."""
        fail_soon([tile for tile in batch.tiles if tile.expired(self._clock())], DeadlineExceeded.in_queue)

    def finished(self, device: Device, batch: Batch, seconds: float | None) -> None:
        """Learn that a run took `seconds`; None if it failed, because a failure says nothing about the next run."""
        with self.queue.lock:
            if not self._has(device):  # abandoned: the time of a run that hung says nothing
                return
            now = self._clock()
            if seconds is not None:
                device.took(batch, seconds)
            device.ended(batch, now)
            for padded_shape, count in batch.by_padded_shape():
                self._arrivals.answered(padded_shape, count, now)

    def snapshot(self) -> Snapshot:
        """Describe what waits and runs now, for `GET /v1/scheduler`."""
        with self.queue.lock:
            seconds = self._clock(), self.backlog_s(), self.admission.bound.seconds
            return snapshot_of(self.queue.buckets, self.devices.values(), self._padded_shapes, *seconds)

    def backlog_s(self) -> float:
        """Predict the seconds until all admitted tiles are done."""
        with self.queue.lock:
            return self.admission.drain_s(Priority.BATCH, self._clock())

    def _has(self, device: Device) -> bool:
        """Tell whether a device takes work now; another one may have taken its name."""
        return self.devices.get(device.name) is device

    def _lone_run(self, device: Device, only_full: bool) -> Run | None:
        """Return the run of a tile that waits alone for the only device, as on a fast one, where a plan costs most."""
        if only_full or self.queue.tiles > 1 or len(self.devices) > 1:
            return None
        return plan_lone(next(iter(self.queue.buckets)).padded_shape, device)

    def _state(self, device: Device, now: float, only_full: bool) -> State:
        """Show the planner what it decides on; only the views of changed buckets are made anew."""
        waiting = self.queue.buckets
        buckets, view = tuple([bucket.view for bucket in waiting]), device.view(now)
        if only_full:
            full = tuple([bucket.view for bucket in self._fills(device, now)])
            return State(buckets, view, now, (), (), NOBODY, self._runs_since_batch, True, full)
        others = tuple([other.view(now) for other in self.devices.values() if other is not device])
        first, *more = buckets
        may_wait = not more and first.tiles < device.room(first.padded_shape) and may_pay(first.padded_shape, device)
        forecast = self._arrivals.forecast(first.padded_shape, now) if may_wait else NOBODY
        return State(buckets, view, now, others, self._padded_shapes.chosen, forecast, self._runs_since_batch)

    def _fills(self, device: Device, now: float) -> list[ShapeBucket]:
        """Return the buckets that fill a run of the device with tiles that still need an answer."""
        return [bucket for bucket in self.queue.buckets if bucket.has(device.full_run(bucket.padded_shape), now)]

    def _take(self, run: Run, device: Device, now: float) -> Batch | None:
        """Take a run out of the queue as a batch; tiles whose deadline has passed end here. None if no tile is left."""
        device.waits(None, now)
        tiles: list[Tile] = []
        for padded_shape, count in run.parts:
            if (bucket := self.queue.bucket(padded_shape)) is None:
                continue
            taken = self.queue.take(bucket, count, now, device, batch_first=run.batch_first)
            self.admission.changed(padded_shape)
            if taken.expired:
                fail_soon(taken.expired, DeadlineExceeded.in_queue)
                self.queue.release(taken.expired)
            tiles += taken.tiles
        if not tiles:
            return None
        one_size = len(run.parts) == 1 or all(tile.padded_shape == tiles[0].padded_shape for tile in tiles)
        batch = Batch(tiles, now, shared=None if one_size else run.padded_shape)
        device.began(batch, now)
        self._runs_since_batch = 0 if tiles[0].priority is Priority.BATCH else self._runs_since_batch + 1
        if self.queue.tiles:
            self._wakes.others(besides=device)
        return batch

    def _expire_waiting(self, tile: Tile) -> None:
        """End a tile that still waits at its deadline; belongs to the event loop."""
        if tile.expired(self._clock()) and self.withdraw(tile) and not tile.future.done():
            tile.future.set_exception(DeadlineExceeded.in_queue())
