"""Inflated body: a compressed body as it was before, while it arrives."""

import asyncio
from collections.abc import Mapping

from isal import isal_zlib

from server.errors import ImageTooLarge, InvalidRequest
from server.http.body.body import Body, UploadRoom
from server.http.body.compression import WINDOWS, encoding_of

# What a body inflates to is never ahead of the room that it takes by more than this, and holds up the loop no longer.
PIECE_BYTES = 256 * 1024
# gzip files may stand one behind the other. Each costs a decompressor, however little is in it.
MOST_MEMBERS = 4096


class InflatedBody:
    """Reads like a Body, with the limit and the room of what comes out; the body's own bytes are let go at once.

    Raises InvalidRequest where the compression is broken or cut off.
    """

    def __init__(self, body: Body, encoding: str, room: UploadRoom) -> None:
        self.declared_bytes = None
        self.limit_bytes = self._max_bytes = body.limit_bytes
        self.ended = False
        """Whether all of it was read."""
        self._body = body
        self._encoding = encoding
        self._room = room
        self._packed = b""
        self._members = 0
        self._begin()
        self._size = self._taken_bytes = 0

    async def chunk(self) -> bytes:
        """The next bytes, perhaps none; raises what a Body raises, and InvalidRequest."""
        if not self._packed and not self._body.ended:
            self._packed = await self._body.chunk()
        else:
            await asyncio.sleep(0)  # the rest of what came: others have their turn
        piece = self._inflate()
        self._size += len(piece)
        if self._size > self.limit_bytes:
            raise self.too_large()
        self._room.take(len(piece))
        self._taken_bytes += len(piece)
        if not self._packed:
            self._body.release()
            if self._body.ended:
                self._finish(piece)
        return piece

    def release(self) -> None:
        """Give its room back: the bytes are no longer held, or no longer counted here."""
        self._body.release()
        self._room.give_back(self._taken_bytes)
        self._taken_bytes = 0

    def too_large(self) -> ImageTooLarge:
        limit = self._max_bytes
        return ImageTooLarge(f"The body inflates to more than the {limit} bytes taken.", max_upload_bytes=limit)

    def _begin(self) -> None:
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise InvalidRequest(f"The body has more than {MOST_MEMBERS} parts in {self._encoding}.")
        self._inflater = isal_zlib.decompressobj(WINDOWS[self._encoding])

    def _inflate(self) -> bytes:
        if self._inflater.eof and self._packed:
            if self._encoding == "deflate":
                raise InvalidRequest("The body has bytes behind what its deflate says is the end.")
            self._begin()
        try:
            piece: bytes = self._inflater.decompress(self._packed, PIECE_BYTES)
        except isal_zlib.error:  # type: ignore[misc] # the library has no types
            raise InvalidRequest(f"The body is no {self._encoding}.") from None
        self._packed = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        return piece

    def _finish(self, piece: bytes) -> None:
        # Without input left there may still be output that did not fit into the last piece.
        self.ended = self._inflater.eof
        if not self.ended and len(piece) < PIECE_BYTES:
            raise InvalidRequest(f"The {self._encoding} of the body is cut off.")


def as_sent(headers: Mapping[bytes, bytes], body: Body, room: UploadRoom) -> Body | InflatedBody:
    """The body without its Content-Encoding; raises UnsupportedEncoding for one that is not read."""
    encoding = encoding_of(headers)
    return body if encoding is None else InflatedBody(body, encoding, room)
