"""The Ticket: the places in the queue that a request holds from its admission until its tiles are submitted."""

import asyncio
from types import TracebackType
from typing import Self

from server.backends.base import Pixels
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import Completion, PaddedShape, Priority


class Ticket:
    """Admits `count` tiles of one padded shape at the entry of its block: as a whole or not at all.

    From then on the tiles count as backlog and take up room in the queue. `submit` redeems one place without another
    check; the exit gives back the places that are left. The tiles of a photo are of the batch class, so a single image
    waits for the current run and not for the whole photo. With `at_once` the first tile waits for the last, so that an
    idle device does not start with one of them alone; all of them must come.
    """

    def __init__(
        self,
        batcher: Batcher,
        padded_shape: PaddedShape,
        count: int = 1,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        *,
        at_once: bool = False,
    ) -> None:
        self._batcher = batcher
        self._padded_shape = padded_shape
        self._count = count
        self._deadline = deadline
        self._priority = priority
        self._alone = count == 1
        self._left = 0
        self._expected_at: float | None = None
        self._gate = asyncio.Barrier(count) if at_once else None

    def __enter__(self) -> Self:
        """Raise what `Batcher.admit` raises, or hold the places."""
        count = None if self._alone else self._count
        with self._batcher.queue.lock:
            expected_at = self._batcher.admit(self._padded_shape, self._deadline, self._priority, count)
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
        with self._batcher.queue.lock:
            self.release()
            self._padded_shape = padded_shape
            self._hold(left)

    def redeem(self) -> float | None:
        """Give up one place for a tile that enters the queue; returns when its answer was expected, if it is alone."""
        if not self._left:
            raise RuntimeError("a ticket has no place left")
        self._hold(-1)
        return self._expected_at

    async def submit(self, pixels: Pixels) -> Completion:
        """Wait for the restored copy of one tile; raises what `Batcher.submit` raises, but no refusal for load."""
        if self._gate is not None:
            await self._gate.wait()
        model = self._padded_shape.model
        return await self._batcher.submit(pixels, self._deadline, self._priority, model=model, ticket=self)

    def _hold(self, count: int) -> None:
        self._batcher.reserve(self._padded_shape, count, self._priority, alone=self._alone)
        self._left += count
