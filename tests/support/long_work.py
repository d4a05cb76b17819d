"""Long work for tests: a Restorer whose calls the test ends itself, and jobs over a real store."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.errors import (
    Draining,
    NotReady,
)
from server.formats.output import OutputFormat
from server.jobs.batch_store import BatchStore
from server.jobs.long_work import LongWork
from server.jobs.record import State
from server.jobs.runner import Runner
from server.restore.options import Mode, Progress, Restored, Timings
from server.restore.pipeline import Status
from server.restore.request import RestoreRequest
from server.scheduling.queue.tile import Priority


@dataclass
class Call:
    """One restoration that the test ends: `answer` with bytes or an error."""

    data: bytes
    deadline: float | None
    priority: Priority
    progress: Progress
    answer: asyncio.Future[bytes] = field(default_factory=asyncio.Future)


class Restorations:
    """Stands in for the Restorer: each call waits until the test answers it."""

    def __init__(self) -> None:
        self.status = Status.READY
        self.active = 0
        self.calls: list[Call] = []
        self.cancelled = 0

    @contextmanager
    def accepted(self) -> Iterator[None]:
        if self.status is not Status.READY:
            raise Draining("stopping") if self.status is Status.DRAINING else NotReady("starting")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def deadline_in(self, patience_s: float | None) -> float | None:
        return patience_s

    async def restore(self, data: bytes, request: RestoreRequest, progress: Progress | None = None) -> Restored:
        assert progress is not None
        self.calls.append(call := Call(data, request.deadline, request.priority, progress))
        try:
            result = await call.answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Restored(result, OutputFormat.PNG, 8, 8, Timings(0, 0, 0, 0, 1), Mode.TILED, 4)


@dataclass
class LongWorkParts:
    """Long work over a real store, its clock and its stand-in."""

    work: LongWork
    runner: Runner
    store: BatchStore
    restorer: Restorations

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop and the store's thread go on until it holds."""
        async with asyncio.timeout(10):
            while True:
                if condition():
                    return
                await asyncio.sleep(0)

    async def calls(self, count: int) -> list[Call]:
        await self.until(lambda: len(self.restorer.calls) >= count)
        return self.restorer.calls

    async def state(self, id_: str, state: State) -> None:
        async with asyncio.timeout(10):
            while True:
                if (await self.work.look(id_)).record.state is state:
                    return
                await asyncio.sleep(0)
