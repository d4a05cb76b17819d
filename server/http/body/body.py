"""Body: the bytes of a request, read within bounds while they arrive."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from server.errors import Draining, ImageTooLarge, UploadStalled
from server.restore.byte_room import ByteRoom, Reservation

# The rest of a refused upload is read and dropped for this long, so that a client that sends before it listens gets its
# answer: Python's urllib sends all of its body first. Nginx does the same, with 30 seconds and 5 of silence.
LINGER_S, SILENT_S = 10.0, 5.0
# For each request, in sizes of the largest upload; and for this many requests at a time: more connections are closed.
LINGER_UPLOADS, MOST_LINGERING = 8, 512
# LINGER_S while the server stops.
LAST_LINGER_S = 1.0
# Each portion of this size has the same time to arrive. A bound on pauses alone would let one byte a minute hold its
# room for ever, and a mean rate would let a quick start pay for hours of silence.
PORTION_BYTES = 64 * 1024


def declared_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    """Return the Content-Length, None if there is none."""
    declared = headers.get(b"content-length", b"")
    return int(declared) if declared.isdigit() else None


class UploadRoom(ByteRoom):
    """The room for all uploads that are being read; closing it ends the waits for more of them."""

    def __init__(self, max_bytes: int, on_refusal: Callable[[str], None] = lambda slug: None) -> None:
        super().__init__(max_bytes, on_refusal)
        self.closed = False
        self.lingering = 0
        """Refused requests whose bodies are still being dropped."""
        self.waits: dict[asyncio.Timeout, float] = {}
        """The timeouts of the current waits, and how long each may last after the closing."""

    def waiting(self, patience: asyncio.Timeout, last_s: float = 0.0) -> "_Waiting":
        """Run a block that waits for more of an upload; it times out at latest `last_s` after the room is closed."""
        return _Waiting(self, patience, last_s)

    def close(self) -> None:
        """End all waits, now or soon, because the server stops."""
        self.closed = True
        for patience, last_s in self.waits.items():
            _hurry(patience, last_s)


class _Waiting:
    """One wait for more of an upload, from entry to exit."""

    __slots__ = ("_last_s", "_patience", "_room")

    def __init__(self, room: UploadRoom, patience: asyncio.Timeout, last_s: float) -> None:
        self._room = room
        self._patience = patience
        self._last_s = last_s

    def __enter__(self) -> None:
        self._room.waits[self._patience] = self._last_s
        if self._room.closed:
            _hurry(self._patience, self._last_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._room.waits[self._patience]


def _hurry(patience: asyncio.Timeout, last_s: float) -> None:
    end, due = asyncio.get_running_loop().time() + last_s, patience.when()
    patience.reschedule(end if due is None else min(due, end))


class Body:
    """Reads the body of a request in chunks, at most `limit_bytes`, which may be set before the first chunk is read.

    `declared_bytes` is the Content-Length, None if there is none. Each PORTION_BYTES must arrive within `stall_s`
    seconds. `has_arrived` may tell that more of it is here already, which saves a timer.
    """

    def __init__(
        self,
        receive: Receive,
        declared_bytes: int | None,
        max_upload_bytes: int,
        room: UploadRoom,
        stall_s: float,
        has_arrived: Callable[[], bool] = lambda: False,
    ) -> None:
        self.declared_bytes = declared_bytes
        self.limit_bytes = max_upload_bytes
        self.ended = False
        """Whether all of it was read from the connection."""
        self._receive = receive
        self._max_upload_bytes = max_upload_bytes
        self._room = room
        self._stall_s = stall_s
        self._has_arrived = has_arrived
        self._due: float | None = None
        self._due_bytes = PORTION_BYTES
        self._read_bytes = 0
        self.held = Reservation(room)
        """The room that its bytes take up."""

    async def chunk(self) -> bytes:
        """Return the next bytes, possibly none.

        Raises ImageTooLarge, QueueFull, UploadStalled, Draining and ClientDisconnect.
        """
        if self.declared_bytes is not None and self.declared_bytes > self.limit_bytes:
            raise self.too_large()
        chunk = await self._next_in_time()
        if self._read_bytes > self.limit_bytes:
            raise self.too_large()
        self.held.take(len(chunk))
        return chunk

    def release(self) -> None:
        """Give its room back: the bytes are no longer held."""
        self.held.release()

    async def discard(self) -> None:
        """Read and drop the rest, within bounds on bytes, time, silence, and the number of requests that do so."""
        if self._room.lingering >= MOST_LINGERING:
            return
        self._room.lingering += 1
        try:
            with suppress(TimeoutError, ClientDisconnect):
                await self._drop()
        finally:
            self._room.lingering -= 1

    def too_large(self) -> ImageTooLarge:
        limit = self._max_upload_bytes
        return ImageTooLarge(f"The upload is larger than the {limit} bytes that are taken.", max_upload_bytes=limit)

    async def _next_in_time(self) -> bytes:
        if self._has_arrived():
            return await self._next()
        now = asyncio.get_running_loop().time()
        if self._due is None or self._read_bytes >= self._due_bytes:
            self._due, self._due_bytes = now + self._stall_s, self._read_bytes + PORTION_BYTES
        try:
            async with asyncio.timeout_at(self._due) as patience:
                with self._room.waiting(patience):
                    return await self._next()
        except TimeoutError:
            if self._room.closed:
                raise Draining(
                    "The server is stopping, and the upload did not come in time: send it again, to another one."
                ) from None
            raise UploadStalled(
                f"The upload has stalled: each {PORTION_BYTES} bytes of it must come within {self._stall_s:g} seconds.",
                upload_stall_s=self._stall_s,
            ) from None

    async def _drop(self) -> None:
        clock = asyncio.get_running_loop().time
        end, until = clock() + LINGER_S, self._read_bytes + LINGER_UPLOADS * self._max_upload_bytes
        async with asyncio.timeout_at(end) as patience:
            with self._room.waiting(patience, LAST_LINGER_S):
                while not self.ended and self._read_bytes < until:
                    if not self._room.closed:  # its closing has set the end
                        patience.reschedule(min(end, clock() + SILENT_S))
                    await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        self._read_bytes += len(chunk)
        return chunk
