"""Incoming: the bytes of an infer request while they arrive, JSON first."""

from collections.abc import Mapping
from io import BytesIO

from server.errors import InvalidRequest
from server.http.body.body import Body, UploadRoom
from server.http.body.compression import as_sent
from server.http.open_inference.wire import header_length


class Incoming:
    """Reads the JSON of a body, and then the binary data; an inflated body has the limit of an upload.

    Raises InvalidRequest and UnsupportedEncoding for bad headers. Its methods raise these, and what a Body raises.
    """

    def __init__(self, headers: Mapping[bytes, bytes], body: Body, room: UploadRoom) -> None:
        self._length = header_length(headers)
        self._body = as_sent(headers, body, room)
        self._data = b""
        self.size = 0
        """The bytes that have arrived; they count until `release`."""

    async def text(self) -> bytes:
        """Read the JSON: as long as the header says, or the whole body, which the caller alone holds from then on."""
        await self._read(self._length)
        if self._length is None:
            text, self._data = self._data, b""
            return text
        if self.size < self._length:
            raise InvalidRequest(f"The body has {self.size} bytes, and no JSON of {self._length}.")
        return self._data[: self._length]

    async def binary(self) -> memoryview:
        """Read all data after the JSON."""
        await self._read(None)
        return memoryview(self._data)[self._length or 0 :]

    def release(self) -> None:
        """Give the room back: the bytes are no longer held."""
        self._body.release()

    async def _read(self, enough: int | None) -> None:
        block = BytesIO(self._data)  # grows in place: pieces would be joined by a copy
        block.seek(len(self._data))
        while not self._body.ended and (enough is None or block.tell() < enough):
            block.write(await self._body.chunk())
        self._data = block.getvalue()
        self.size = max(self.size, len(self._data))
