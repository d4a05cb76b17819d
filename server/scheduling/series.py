"""The Series: tiles of one padded shape that are admitted as a whole and submitted one by one."""

import asyncio
from types import TracebackType
from typing import Self

from server.backends.base import Pixels
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import Completion, PaddedShape, Priority


class Series:
    """The tiles of one photo, or the images of one tensor: the `with` block is refused at its beginning or not at all.

    Tiles that are still to come count as backlog until the block ends. The tiles of a photo are of the batch class, so
    that a single image waits only for the current run and not for the photo. With `at_once` the first tile waits for
    the last one, so that an idle device does not begin with one tile alone; all tiles must come.
    """

    def __init__(
        self,
        batcher: Batcher,
        padded_shape: PaddedShape,
        count: int,
        deadline: float | None,
        priority: Priority = Priority.BATCH,
        *,
        at_once: bool = False,
    ) -> None:
        self._batcher = batcher
        self._padded_shape = padded_shape
        self._remaining = count
        self._deadline = deadline
        self._priority = priority
        self._gate = asyncio.Barrier(count) if at_once else None

    def __enter__(self) -> Self:
        """Reserve the tiles; raises what `Batcher.admit` raises for that many."""
        with self._batcher.queue.lock:
            self._batcher.admit(self._padded_shape, self._deadline, self._priority, self._remaining)
            self._batcher.reserve(self._padded_shape, self._remaining)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._batcher.reserve(self._padded_shape, -self._remaining)
        self._remaining = 0

    async def submit(self, pixels: Pixels) -> Completion:
        """Wait for the restored copy of one tile: `Batcher.submit` without its refusals for load."""
        if self._gate is not None:
            await self._gate.wait()
        self._remaining -= 1
        return await self._batcher.submit(pixels, self._deadline, self._priority, reserved=True)
