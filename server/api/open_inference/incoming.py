"""Incoming: the bytes of an infer request as they arrive, JSON first."""

from collections.abc import Mapping

from server.api.body import Body, UploadRoom
from server.api.open_inference.compression import encoding_of, inflated
from server.api.open_inference.wire import header_length
from server.aside import aside
from server.errors import InvalidRequest


class Incoming:
    """Reads no more of a body than is asked for, unless it is compressed; inflated, it has the limit of an upload.

    Raises InvalidRequest and UnsupportedEncoding for headers that say nothing of use. Its methods raise these, what a
    Body raises, and QueueFull where no room is left for what was inflated.
    """

    def __init__(self, headers: Mapping[bytes, bytes], body: Body, room: UploadRoom, max_bytes: int) -> None:
        self._length, self._encoding = header_length(headers), encoding_of(headers)
        self._body = body
        self._room = room
        self._max_bytes = max_bytes
        self._data = b""
        self._taken_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return len(self._data)

    async def text(self) -> bytes:
        """The JSON: where its length is given so many bytes, else all."""
        if self._encoding is None:
            await self._read(self._length)
        else:
            await self._read(None)
            await self._inflate(self._encoding)
        if self._length is None:
            return self._data
        if self.size < self._length:
            raise InvalidRequest(f"The body has {self.size} bytes, and no JSON of {self._length}.")
        return self._data[: self._length]

    async def binary(self) -> memoryview:
        """What follows the JSON, all of it."""
        await self._read(None)
        return memoryview(self._data)[self.size if self._length is None else self._length :]

    def release(self) -> None:
        """Give the room back: the bytes are no longer held."""
        self._body.release()
        self._room.give_back(self._taken_bytes)
        self._taken_bytes = 0

    async def _read(self, enough: int | None) -> None:
        parts, size = [self._data], self.size
        while not self._body.ended and (enough is None or size < enough):
            parts.append(await self._body.chunk())
            size += len(parts[-1])
        self._data = b"".join(parts)

    async def _inflate(self, encoding: str) -> None:
        packed = self._data
        self._data = await aside(lambda: inflated(packed, encoding, self._max_bytes), len(packed))
        self._room.take(self.size)
        self._taken_bytes = self.size
