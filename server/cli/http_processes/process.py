"""The HttpProcess: one process that serves HTTP, as its parent sees it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from server.backends.shared.messages import Address
from server.cli.http_processes import child
from server.cli.http_processes.channel import PAGE_PATIENCE_S, Asker, Failed, PageWanted, Unanswered
from server.metrics.exposition import MetricsPage
from server.settings import Settings
from server.shared_memory import remove_segments_of

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang


class HttpProcess:
    """One process, from its start to its end; another one takes the place of one that has ended."""

    def __init__(
        self, number: int, settings: Settings, address: Address, make_page: MetricsPage, *, opens_when_ready: bool
    ) -> None:
        self.number = number
        self.is_listening = False
        self.is_ready = False
        self.failure: str | None = None
        """Why this process could not serve, if it says so."""
        self.started = 0.0
        """When it was started, in seconds of time.monotonic."""
        self.alive_at: float | None = None
        """When its event loop last turned, likewise; None before it first did."""
        self._make_page = make_page
        questions, self._asked = _SPAWN.Pipe()
        told, self._telling = _SPAWN.Pipe()
        self._asker = Asker(questions)
        self._process: Any = _SPAWN.Process(
            target=child.serve,
            args=(settings, address, self._asked, self._telling, opens_when_ready),
            name=f"promptir-http-{number}",
        )
        self._listener = threading.Thread(target=self._listen, args=(told,), daemon=True)

    def start(self) -> None:
        """Start the process, once; raises OSError if the system has no room for it."""
        self.started = time.monotonic()
        with self._asked, self._telling, _terminal_blocked():  # its own ends, which it inherits
            self._process.start()
        self._listener.start()

    @property
    def sentinel(self) -> int:
        """What becomes readable when the process ends."""
        sentinel: int = self._process.sentinel
        return sentinel

    @property
    def exit_code(self) -> int | None:
        """None while the process runs, and minus the number of the signal that ended it."""
        code: int | None = self._process.exitcode
        return code

    def page(self) -> bytes | None:
        """Return its page of metrics in OpenMetrics; None if it does not answer."""
        if self.exit_code is not None:
            return None
        try:
            page: bytes = self._asker.ask(PageWanted(is_openmetrics=True), PAGE_PATIENCE_S)
        except Unanswered:
            return None
        return page

    def signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process at once and remove its shared memory."""
        self.signal(signal.SIGKILL)
        remove_segments_of(self._process.pid)

    def clean_up(self) -> None:
        """Wait for the last messages of a process that has ended, and remove its shared memory."""
        self._process.join()
        self._listener.join()
        remove_segments_of(self._process.pid)

    def _listen(self, told: Connection) -> None:
        with told, suppress(EOFError, OSError):  # the process has ended
            while True:
                match told.recv():
                    case PageWanted(is_openmetrics):
                        told.send(self._make_page(is_openmetrics))
                    case Failed(reason):
                        self.failure = reason
                    case "listening":
                        self.is_listening = True
                    case "ready":
                        self.is_ready = True
                    case "alive":
                        self.alive_at = time.monotonic()


@contextmanager
def _terminal_blocked() -> Iterator[None]:
    """Start a process in this block with the signals of the terminal blocked, until it has left the terminal's group.

    Those to this process come after the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, child.OF_THE_TERMINAL)
    try:
        resource_tracker.ensure_running()  # a process too, which inherits the mask; its start unblocks SIGINT here
        signal.pthread_sigmask(signal.SIG_BLOCK, child.OF_THE_TERMINAL)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
