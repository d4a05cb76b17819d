"""Reservation: the bytes that one request holds of the room for uploads, results included."""

from types import TracebackType
from typing import Self

from server.http.body.body import UploadRoom


class Reservation:
    """Takes room piece by piece, and gives all of it back at its end."""

    def __init__(self, room: UploadRoom) -> None:
        self._room = room
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def take(self, count: int) -> None:
        """Reserve further bytes; raises QueueFull where there is no room for them."""
        self._room.take(count)
        self._held_bytes += count

    def release(self) -> None:
        """Give all of them back; further calls do nothing."""
        self._room.give_back(self._held_bytes)
        self._held_bytes = 0
