"""The ByteRoom: how many bytes of uploads, and of results not yet sent, the server holds at a time."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from server.errors import QueueFull

# A refused client comes back after about as long as the uploads before it take.
RETRY_AFTER_S = 1.0


class ByteRoom:
    """Counts bytes over all requests and refuses those beyond `max_bytes`; `on_refusal` receives the error's slug."""

    def __init__(self, max_bytes: int, on_refusal: Callable[[str], None] = lambda slug: None) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._on_refusal = on_refusal

    def take(self, count: int) -> None:
        """Count `count` more bytes; raises QueueFull if there is no room for them."""
        if self.used_bytes + count > self.max_bytes:
            self._on_refusal(QueueFull.slug)
            raise QueueFull(
                "Too many bytes of other uploads are being read.",
                retry_after_s=RETRY_AFTER_S,
                max_uploads_bytes=self.max_bytes,
            )
        self.used_bytes += count

    def give_back(self, count: int) -> None:
        """Count `count` bytes less."""
        self.used_bytes -= count


class Reservation:
    """The bytes that one request holds of a ByteRoom: taken piece by piece, given back together."""

    def __init__(self, room: ByteRoom) -> None:
        self._room = room
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def take(self, count: int) -> None:
        """Reserve `count` more bytes; raises QueueFull if there is no room for them."""
        self._room.take(count)
        self._held_bytes += count

    def release(self) -> None:
        """Give back all bytes; further calls do nothing."""
        if self._held_bytes:
            self._room.give_back(self._held_bytes)
            self._held_bytes = 0
