"""Uvicorn server that finishes accepted requests before it stops."""

import asyncio
import faulthandler
import fcntl
import logging
import os
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn

from server.http.body.body import UploadRoom
from server.restore.pipeline import Restorer, Status

log = logging.getLogger(__name__)

TICKS_A_SECOND = 10  # of uvicorn
# Shell convention: exit code of a process ended by a signal, plus the signal's number.
SIGNALLED = 128
# After the drain only the last bytes of responses are in transit; clients that read nothing for this long are cut off.
STALLED_S = 0.5
# After the last request, only runs for disconnected clients may still be active.
IDLE_S = 5.0
# Time after the drain for the last bytes, unsent traces and the release of devices. Shorter than the grace period of
# Kubernetes and Compose, which would kill the process without a report of what it was waiting for.
MAX_SHUTDOWN_S = 12.0


class DrainingServer(uvicorn.Server):
    """Server that keeps listening while it drains, so that probes can see that it is not ready.

    The first SIGTERM, SIGINT or SIGHUP starts the drain; a second one ends the process. The failure of the device pool
    also starts a drain, so that runs of the remaining devices finish. `on_ready` is called once, when the service takes
    restorations, and `on_second` each second, as long as the event loop turns.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        restorer: Restorer,
        room: UploadRoom,
        drain_timeout_s: float,
        on_ready: Callable[[], None] | None = None,
        on_second: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_second = on_second
        self._restorer = restorer
        self._room = room
        self._on_ready = on_ready
        self._drain_timeout_s = drain_timeout_s
        self._drain_until: float | None = None
        self._signal: int | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle SIGHUP (a closed terminal) too, unless it is ignored, as under nohup."""
        before = signal.getsignal(signal.SIGHUP)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.handle_exit)
        with super().capture_signals():
            yield
        signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Record the signal; unlike uvicorn, keep the port open.

        Does nothing else, because it may interrupt the loop at any point, even inside a log line.
        """
        if self._signal is not None:
            # Raising the signal would have no effect on the first process of a container.
            os._exit(SIGNALLED + sig)
        self._signal = sig

    async def on_tick(self, counter: int) -> bool:
        """Start the drain if needed and return whether to stop; called ten times per second."""
        if await super().on_tick(counter):
            return True
        if self._on_second is not None and counter % TICKS_A_SECOND == 0:
            self._on_second()
        if self._on_ready is not None and self._restorer.status is Status.READY:
            self._on_ready()
            self._on_ready = None
        if self._drain_until is None:
            if self._signal is not None:
                name = signal.Signals(self._signal).name
                log.info("draining", extra={"signal": name, "active": self._restorer.active})
            elif self._restorer.failure is None:
                return False
            self._restorer.drain()
            self._drain_until = time.monotonic() + self._drain_timeout_s
            _end_within(self._drain_timeout_s + MAX_SHUTDOWN_S)
        return self._restorer.active == 0 or time.monotonic() >= self._drain_until

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Refuse unfinished uploads and stop the backend; waiting requests are answered before connections close."""
        self._room.close()
        left_s = 0.0 if self._drain_until is None else max(0.0, self._drain_until - time.monotonic())
        if self._restorer.active == 0:
            left_s = min(left_s, IDLE_S)
        _end_within(left_s + MAX_SHUTDOWN_S)
        await self._restorer.stop(left_s)
        cutting = asyncio.create_task(self._cut_off_stalled())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off_stalled(self) -> None:
        before: dict[Any, int] = {}
        while True:
            await asyncio.sleep(STALLED_S)
            now = {connection: _unsent_bytes(connection.transport) for connection in self.server_state.connections}
            for connection, count in now.items():
                if before.get(connection) == count:
                    connection.transport.abort()
            before = now


def _end_within(seconds: float) -> None:
    """Print every thread's stack and exit with code 1 if the process still runs after `seconds`.

    Runs in a native thread, so that neither a blocked loop nor a lock can prevent it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)


def _unsent_bytes(transport: asyncio.Transport) -> int:
    """Count the bytes that the client has not received, in the process and the kernel."""
    count = transport.get_write_buffer_size()
    with suppress(OSError, AttributeError):
        in_system = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        count += struct.unpack("i", in_system)[0]
    return count
