"""Incoming: reads what connections send into one buffer, which needs no memory of its own for each read."""

import asyncio
from collections.abc import Callable
from typing import Any

from server.http.protocol.connection import BoundedProtocol

# As much as uvloop takes from a connection at a time.
READ_BYTES = 256_000


class Incoming(asyncio.BufferedProtocol):
    """Passes what a connection receives to its `BoundedProtocol`, and answers 503 if there is no memory for it.

    A transport that reads into memory of its own drops the connection without an answer when it gets none. `buffer` may
    be shared by all connections of an event loop: it is read before the next of them receives anything.
    """

    def __init__(self, protocol: BoundedProtocol, buffer: memoryview) -> None:
        self._protocol = protocol
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the connection."""
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._protocol.connection_lost(exc)

    def eof_received(self) -> None:
        """Let the transport close: nothing more will come."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Tell that the buffers of the transport are full."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tell that the buffers of the transport have room again."""
        self._protocol.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the transport may write what it receives."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what has come; the inside of a body without a copy, for the parser makes one."""
        received = self._buffer[:nbytes]
        try:
            if not self._protocol.feed_body(received):
                self._protocol.data_received(bytes(received))
        except MemoryError:
            self._protocol.refuse_for_memory()


def incoming(make: Callable[..., BoundedProtocol]) -> Callable[..., Incoming]:
    """Return a function that makes connections for one event loop, with the arguments that `make` takes."""
    buffer = memoryview(bytearray(READ_BYTES))

    def connection(*arguments: Any, **named: Any) -> Incoming:
        return Incoming(make(*arguments, **named), buffer)

    return connection
