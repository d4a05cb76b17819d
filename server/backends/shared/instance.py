"""The SharedInstance: one backend in the device process, and the thread that starts, runs and stops it."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import cast

from server.backends.base import Backend, BackendInfo, ModelInput, Pending, PipelinedBackend, Result
from server.backends.shared.turns import Turns
from server.errors import BackendError, BackendLost, BackendUnavailable

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Request:
    """A batch that waits for its run."""

    batch: ModelInput
    answer: Callable[[Result | Exception], None]
    """Called once, in any thread."""
    pending: Pending | None = field(default=None)
    """The run, if it has begun."""


class SharedInstance:
    """Runs batches in the order of arrival and begins the next one early where the backend can.

    `users` is counted by the host. An instance is lost when a run raises BackendLost, when anything else ends its
    thread, or when the host abandons it; then every request is answered with BackendLost.
    """

    def __init__(self, number: int, backend: Backend, turns: Turns) -> None:
        self.number = number
        self.users = 0
        self._backend = backend
        self._turns = turns
        self._started: Future[BackendInfo] = Future()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the two below
        self._unanswered: set[Request] = set()
        self._lost: BackendLost | None = None

    def start(self) -> None:
        """Start the thread, which starts the backend."""
        # A daemon, because a run may hang in native code.
        threading.Thread(target=self._main, name="promptir-shared", daemon=True).start()

    def info(self) -> BackendInfo:
        """Wait until the backend has started; raises what its start raised."""
        return self._started.result()

    @property
    def is_usable(self) -> bool:
        """Whether the backend starts, or serves; false once it is lost, has not started or is stopped."""
        return self._lost is None

    def submit(self, request: Request) -> None:
        """Queue a batch."""
        with self._lock:
            lost = self._lost
            if lost is None:
                self._unanswered.add(request)
                self._queue.put(request)
        if lost is not None:
            request.answer(lost)

    def stop(self) -> None:
        """Stop the backend after what is queued; returns at once."""
        self._queue.put(None)

    def abandon(self, reason: BackendLost) -> None:
        """Answer every request with `reason` from now on, whatever the thread does."""
        with self._lock:
            self._lost = self._lost or reason
            unanswered, self._unanswered = self._unanswered, set()
        for request in unanswered:
            request.answer(reason)
        self._queue.put(None)  # the thread ends after its run, if that ever ends

    def _main(self) -> None:
        try:
            info = self._backend.start()
        except BaseException as error:
            self._lost = BackendLost("the backend did not start")
            if not isinstance(error, BackendError):
                log.exception("the backend failed to start")
                error = BackendUnavailable(f"the backend failed to start: {type(error).__name__}: {error}")
            self._started.set_exception(error)
            return
        self._started.set_result(info)
        reason = BackendLost("the backend was stopped")
        try:
            self._serve(cast(PipelinedBackend, self._backend) if info.can_begin_ahead else None)
        except BaseException as error:
            log.critical("a device was lost", extra={"device": info.device}, exc_info=True)
            reason = error if isinstance(error, BackendLost) else BackendLost(f"the backend failed: {error!r}")
        finally:
            self.abandon(reason)
            try:
                self._backend.stop()
            except Exception:
                log.exception("the backend failed to stop", extra={"device": info.device})

    def _serve(self, pipelined: PipelinedBackend | None) -> None:
        while (request := self._queue.get()) is not None and self.is_usable:
            with self._turns.taken():
                current: Request | None = request
                while current is not None:
                    self._begin(current, pipelined)
                    behind = self._next()
                    if behind is not None:
                        self._begin(behind, pipelined)
                    self._finish(current)
                    current = behind

    def _next(self) -> Request | None:
        """Take a request that waits, unless another backend of the device has the next turn."""
        if self._turns.are_wanted:
            return None
        try:
            request = self._queue.get_nowait()
        except queue.Empty:
            return None
        if request is None:
            self._queue.put(None)  # for `_serve`
        return request

    def _begin(self, request: Request, pipelined: PipelinedBackend | None) -> None:
        if pipelined is None or request.pending is not None:
            return
        try:
            request.pending = pipelined.begin(request.batch)
        except BackendLost:
            raise
        except Exception:  # it may fit when nothing else runs; if not, its run in turn fails again
            log.debug("a batch did not begin early", exc_info=True)

    def _finish(self, request: Request) -> None:
        answer: Result | Exception
        try:
            answer = self._backend.run(request.batch) if request.pending is None else request.pending.result()
        except BackendLost:
            raise
        except Exception as error:
            answer = error
        with self._lock:
            if request not in self._unanswered:
                return  # abandoned
            self._unanswered.remove(request)
        request.answer(answer)
