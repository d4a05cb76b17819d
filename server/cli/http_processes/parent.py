"""The parent of the HTTP processes: it runs the devices, keeps the processes running and ends them."""

import logging
import logging.config
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import wait
from types import FrameType

from prometheus_client import CollectorRegistry

from server import backends, logs
from server.backends.shared.host import DeviceHost
from server.backends.shared.messages import Address
from server.cli.draining_server import MAX_SHUTDOWN_S, SIGNALLED
from server.cli.http_processes.process import HttpProcess
from server.cli.http_server import announce, exit_at_once, listen, serve_scrapes, share, welcome
from server.errors import BackendUnavailable
from server.metrics.exposition import ProcessPages, page_of, process_registry
from server.restore.allocator import limit_retained_memory
from server.scheduling.execution.supervisor import STEADY_S, pause_s
from server.settings import Settings

log = logging.getLogger(__name__)

PARENT = "devices"
"""The name of the process that runs the devices, in the label of its series."""
HUNG_S = 60.0
"""A process whose event loop stands still for this long is killed; nothing in it takes more than a second."""
_LOOK_S = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ENDED_WELL = (0, -signal.SIGTERM)  # the latter while it was starting
# In addition to the time in which a process ends by itself: it may be starting, and not see the signal at once.
_GRACE_S = 5.0


def serve_processes(settings: Settings) -> int:
    """Run the devices and the HTTP processes until a signal, drain and return the exit code.

    Raises OSError or BackendUnavailable if a process cannot start or has permanently lost all devices.
    """
    limit_retained_memory()
    logging.config.dictConfig(logs.config(settings.log_level))
    with listen(settings.http) as alone:  # another server that shared the port would get half of the requests
        http = settings.http.model_copy(update={"port": alone.getsockname()[1]})
    with share(http) as port:  # without listening, so that the port stays ours while processes start again
        return _serve(settings.model_copy(update={"http": http}), port)


def _serve(settings: Settings, port: socket.socket) -> int:
    host = DeviceHost(backends.create)
    processes = HttpProcesses(settings, host.open())
    on_ready = partial(print, welcome(port), file=sys.stderr) if sys.stderr.isatty() else None
    try:
        with serve_scrapes(settings.http, processes.registry):
            code = processes.run(partial(announce, port, settings), on_ready)
    finally:
        processes.kill()
        host.close()
    if code == 0:
        log.info("stopped")
    return code


class HttpProcesses:
    """Starts the processes, starts one again that has ended, and drains all of them after a signal."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self.registry = CollectorRegistry()
        """The series of all processes, this one included."""
        self.registry.register(ProcessPages(self._pages))
        self._own = process_registry()
        self._settings = settings
        self._address = address
        self._processes: list[HttpProcess] = []
        self._losses = [0] * settings.http.http_processes
        self._due: dict[int, float] = {}
        self._signal: int | None = None

    def run(self, on_listening: Callable[[], object], on_ready: Callable[[], object] | None) -> int:
        """Serve until a signal has drained all processes; returns the exit code. Called in the main thread.

        `on_listening` and `on_ready` are called when the first process is. Raises BackendUnavailable when one reports
        that it cannot serve.
        """
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        for index in range(len(self._losses)):
            self._processes.append(self._start(index))
        waiting = {"is_listening": on_listening} | ({} if on_ready is None else {"is_ready": on_ready})
        while self._signal is None:
            wait([one.sentinel for one in self._processes if one.exit_code is None], _LOOK_S)
            for state in [*waiting]:
                if any(getattr(one, state) for one in self._processes):
                    waiting.pop(state)()
            self._restart()
        log.info("draining", extra={"signal": signal.Signals(self._signal).name})
        return self._drain()

    def kill(self) -> None:
        """End all processes at once."""
        for process in self._processes:
            process.kill()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self.kill()
            exit_at_once(SIGNALLED + number)
        self._signal = number

    def _start(self, number: int) -> HttpProcess:
        make_page = partial(page_of, self.registry)
        opens_when_ready = any(one.is_ready for one in self._processes)  # they serve, and it could not yet
        process = HttpProcess(number, self._settings, self._address, make_page, opens_when_ready=opens_when_ready)
        process.start()
        return process

    def _restart(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exit_code is None:
                self._end_hanging(process)
                continue
            if index not in self._due:
                self._count_loss(index, process)
            elif time.monotonic() >= self._due[index]:
                self._start_again(index)

    def _end_hanging(self, process: HttpProcess) -> None:
        if process.alive_at is not None and time.monotonic() - process.alive_at > HUNG_S:
            log.critical("an HTTP process hangs; it is killed", extra={"http_process": process.number})
            process.kill()

    def _start_again(self, index: int) -> None:
        try:
            self._processes[index] = self._start(index)
        except OSError as error:  # no memory or no process is free
            log.error("an HTTP process cannot be started", extra={"http_process": index, "reason": str(error)})
            self._due[index] = time.monotonic() + self._pause(index)
        else:
            del self._due[index]

    def _pause(self, index: int) -> float:
        self._losses[index] += 1
        return pause_s(self._losses[index], random.random())

    def _count_loss(self, index: int, process: HttpProcess) -> None:
        process.clean_up()
        # One that cannot start beside one that serves is tried again, as after a mistake in the keys file.
        others_serve = any(one.is_listening and one.exit_code is None for one in self._processes)
        if process.failure is not None and (process.is_listening or not others_serve):
            self._drain()
            raise BackendUnavailable(process.failure)
        now = time.monotonic()
        if now - process.started > STEADY_S:
            self._losses[index] = 0
        seconds = self._pause(index)
        self._due[index] = now + seconds
        lost = {"http_process": index, "exit_code": process.exit_code, "reason": process.failure}
        log.error("an HTTP process was lost; it is started again", extra={**lost, "in_s": round(seconds, 2)})

    def _drain(self) -> int:
        """Let all processes drain and wait for their end; returns 0 if none failed, else 1."""
        draining = [one for one in self._processes if one.exit_code is None]
        for process in draining:
            process.signal(signal.SIGTERM)
        end = time.monotonic() + self._settings.http.drain_timeout_s + MAX_SHUTDOWN_S + _GRACE_S
        while running := [one for one in draining if one.exit_code is None]:
            if time.monotonic() > end:
                break
            wait([one.sentinel for one in running], _LOOK_S)
        for process in running:
            log.error("an HTTP process did not end; it is killed", extra={"http_process": process.number})
            process.kill()
        for process in self._processes:
            process.clean_up()
        return int(any(one.exit_code not in _ENDED_WELL for one in draining))

    def _pages(self) -> Mapping[str, bytes]:
        listening = [one for one in self._processes if one.is_listening]
        with ThreadPoolExecutor(len(self._losses)) as askers:  # all at once, because some may hang
            pages = zip(listening, askers.map(HttpProcess.page, listening), strict=True)
        answered = {str(process.number): page for process, page in pages if page is not None}
        return {PARENT: page_of(self._own, is_openmetrics=True)} | answered
