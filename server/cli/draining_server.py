"""Draining server: uvicorn that ends what it has accepted before it stops."""

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
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn

from server.http.body.body import UploadRoom
from server.restore.pipeline import Restorer

log = logging.getLogger(__name__)

# The shells' convention for a process that a signal ended.
SIGNALLED = 128
# After the drain only the last bytes of answers are still on their way; to a client that takes none of them for so long
# they do not come.
STALLED_S = 0.5
# What may still run when no request is left is a run of an image whose client has gone.
IDLE_S = 5.0
# After the drain: the last bytes, the traces that are not sent yet, the release of the devices. Less than Kubernetes
# and Compose leave, which would kill the process without a word on what it waits for.
MOST_TO_END_S = 12.0


class DrainingServer(uvicorn.Server):
    """Keeps listening while it drains, so that readiness can be seen to be gone.

    The first SIGTERM, SIGINT or SIGHUP starts the drain, a second one ends the process. A pool of devices that has
    failed is drained as well: one device that did not start must not cut off what another one runs.
    """

    def __init__(self, config: uvicorn.Config, restorer: Restorer, room: UploadRoom, drain_timeout_s: float) -> None:
        super().__init__(config)
        self._restorer = restorer
        self._room = room
        self._drain_timeout_s = drain_timeout_s
        self._drain_until: float | None = None
        self._signal: int | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take SIGHUP as well, which the end of a terminal sends; unless it is ignored, as under nohup."""
        before = signal.getsignal(signal.SIGHUP)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.handle_exit)
        with super().capture_signals():
            yield
        signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal; uvicorn would close the port at once and end the process by the signal.

        Nothing else is done here: this interrupts the loop anywhere, also in the middle of a line of the log.
        """
        if self._signal is not None:
            # Not by the signal itself, which has no effect on the first process of a container.
            os._exit(SIGNALLED + sig)
        self._signal = sig

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if await super().on_tick(counter):
            return True
        if self._drain_until is None:
            if self._signal is not None:
                name = signal.Signals(self._signal).name
                log.info("draining", extra={"signal": name, "active": self._restorer.active})
            elif self._restorer.failure is None:
                return False
            self._restorer.drain()
            self._drain_until = time.monotonic() + self._drain_timeout_s
            _end_within(self._drain_timeout_s + MOST_TO_END_S)
        return self._restorer.active == 0 or time.monotonic() >= self._drain_until

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Refuse uploads that are still coming and stop the backend: all that wait are answered before it closes."""
        self._room.close()
        left_s = 0.0 if self._drain_until is None else max(0.0, self._drain_until - time.monotonic())
        if self._restorer.active == 0:
            left_s = min(left_s, IDLE_S)
        _end_within(left_s + MOST_TO_END_S)
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
    """End the process with 1 if it is still there then, whatever holds it up, and say where each thread stands.

    By a thread that needs nothing of Python: neither a loop that is blocked nor a lock can keep it from it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)


def _unsent_bytes(transport: asyncio.Transport) -> int:
    """What the client has not got, here and in the system: that alone shows whether a slow one still reads."""
    count = transport.get_write_buffer_size()
    with suppress(OSError, AttributeError):
        in_system = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        count += struct.unpack("i", in_system)[0]
    return count
