"""The SharedBackend: uses a backend of the device process as if it were this process's own."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from typing import Any

import numpy as np

from server.backends.base import BackendInfo, ModelInput, Pending, Pixels, Result
from server.backends.settings import RuntimeSettings
from server.backends.shared.messages import Address, Ran, Run, Start, Started
from server.errors import BackendError, BackendLost
from server.shared_memory import SegmentPool

log = logging.getLogger(__name__)


class SharedBackend:
    """Sends batches to the device process, with the pixels in shared memory, or in the message if that is full.

    Answers come in the order of the batches. Errors are those of the backend there. BackendLost is for good when the
    device process has ended.
    """

    def __init__(
        self, address: Address, segments: SegmentPool, start: Start, before: "SharedBackend | None" = None
    ) -> None:
        self._address = address
        self._segments = segments
        self._start = start
        self._before = before
        self._number: int | None = None
        self._connection: Connection | None = None
        self._begun: deque[_SharedRun] = deque()
        self._was_full = False

    def start(self) -> BackendInfo:
        try:
            self._connection = Client(self._address.path, "AF_UNIX", authkey=self._address.key)
        except OSError as error:
            raise _ended() from error
        try:
            before, self._before = self._before, None
            self._send(replace(self._start, abandoned=None if before is None else before.abandoned))
            started: Started = self._receive()
        except BaseException:
            self.stop()
            raise
        self._number = started.number
        return started.info

    @property
    def abandoned(self) -> int | None:
        """The number of the backend in the device process, if this one was left with runs that have not ended."""
        return self._number if self._begun else None

    def run(self, batch: ModelInput) -> Result:
        return self.begin(batch).result()

    def begin(self, batch: ModelInput) -> Pending:
        lease = self._segments.lend(batch.pixels.nbytes)
        if lease is None:
            self._say_full()
            name, shared = None, None
            self._send(Run(batch.shape, batch.pixels, batch.sizes, batch.precision))
        else:
            name, shared = lease.name, lease.data[: batch.pixels.nbytes].view(np.float32).reshape(batch.shape)
            np.copyto(shared, batch.pixels)
            self._send(Run(batch.shape, name, batch.sizes, batch.precision))
        run = _SharedRun(self, name, shared)
        self._begun.append(run)
        return run

    def stop(self) -> None:
        for run in self._begun:  # the device process may still write their results
            if run.name is not None:
                self._segments.give_up(run.name)
        self._begun.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say_full(self) -> None:
        if not self._was_full:
            log.warning("shared memory is full; pixels go to the device through a socket, which takes longer")
        self._was_full = True

    def _await(self, run: "_SharedRun", seconds: float | None) -> None:
        """Receive the answers up to that of `run`; give up after `seconds` without one, if that is not None."""
        while run.answer is None and run in self._begun:
            if seconds is not None and not self._opened.poll(max(0.0, seconds)):
                return
            first = self._begun[0]
            try:
                first.answer = self._receive()
            except BackendLost:
                raise
            except Exception as error:
                first.answer = error
            self._begun.popleft()

    @property
    def _opened(self) -> Connection:
        if self._connection is None:
            raise BackendError("the backend was not started")
        return self._connection

    def _send(self, message: object) -> None:
        try:
            self._opened.send(message)
        except OSError as error:
            raise _ended() from error

    def _receive(self) -> Any:
        try:
            answer = self._opened.recv()
        except (EOFError, OSError) as error:
            raise _ended() from error
        if isinstance(answer, Exception):
            raise answer
        return answer


class SharedBackends:
    """Makes the backends of one process; each knows the one before it, whose run may hang."""

    def __init__(self, address: Address, segments: SegmentPool) -> None:
        self._address = address
        self._segments = segments
        self._latest: dict[tuple[object, ...], SharedBackend] = {}

    def of(self, settings: RuntimeSettings, max_batch: int) -> Callable[[str], SharedBackend]:
        """Return what makes the backend of a device, with these settings and this largest batch."""

        def new(device: str) -> SharedBackend:
            start = Start(settings, max_batch, device)
            before = self._latest.get(start.identity)
            self._latest[start.identity] = made = SharedBackend(self._address, self._segments, start, before)
            return made

        return new


class _SharedRun:
    """A run that the device process has, and its answer once that is received."""

    def __init__(self, backend: SharedBackend, name: str | None, shared: Pixels | None) -> None:
        self.name = name
        """Of its segment."""
        self.answer: Ran | Exception | None = None
        self._backend = backend
        self._shared = shared

    def wait(self, seconds: float) -> None:
        self._backend._await(self, seconds)

    def result(self) -> Result:
        self._backend._await(self, None)
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise BackendError("the backend was stopped during the run")
        pixels = self._shared if answer.pixels is None else answer.pixels
        if pixels is None:
            raise BackendError("the device process sent no pixels")
        return Result(pixels, answer.aux)


def _ended() -> BackendLost:
    return BackendLost.until_restart("the device process has ended")
