"""Compression: request bodies with a Content-Encoding, and answers that a client wants compressed."""

import asyncio
import zlib
from collections.abc import Iterable, Iterator, Mapping

from isal import isal_zlib

from server.errors import ImageTooLarge, InvalidRequest, UnsupportedEncoding
from server.http.body.body import Body, UploadRoom
from server.restore.byte_room import Reservation

# As HTTP names them (RFC 9110, section 8.4.1): `deflate` has zlib's header.
_GZIP, _ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
WINDOWS: Mapping[str, int] = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_FASTEST = 1
# The size of the pieces that a body is inflated to: it holds no more room ahead of its count, and the loop no longer.
PIECE_BYTES = 256 * 1024
# gzip files may follow one another in a body. Each costs a decompressor, however little it holds.
MOST_MEMBERS = 4096


def encoding_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return how a body is compressed, None if it is not; raises UnsupportedEncoding."""
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in WINDOWS:
        raise UnsupportedEncoding(
            f"Content-Encoding {encoding} is not read; gzip and deflate are.", encodings=sorted(WINDOWS)
        )
    return encoding


def wanted_encoding(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the compression of an answer: only if a client names one and no other.

    Pixels shrink little, and libraries list every encoding they can read, so a list is no wish.
    """
    accepted = headers.get(b"accept-encoding", b"").decode("latin-1").strip().lower()
    return accepted if accepted in ("gzip", "deflate") else None


def deflated(pieces: Iterable[bytes | memoryview], encoding: str) -> Iterator[bytes]:
    """Compress an answer piece by piece, at the fastest level."""
    deflater = isal_zlib.compressobj(_FASTEST, isal_zlib.DEFLATED, WINDOWS[encoding])
    for piece in pieces:
        yield bytes(deflater.compress(piece))
    yield bytes(deflater.flush())


class InflatedBody:
    """Reads like a Body whose bytes are inflated; limit and room apply to the inflated bytes.

    Raises InvalidRequest if the compressed data is broken or cut off.
    """

    def __init__(self, body: Body, encoding: str, room: UploadRoom) -> None:
        self.declared_bytes = None
        self.limit_bytes = self._max_bytes = body.limit_bytes
        self.ended = False
        """Whether all of it was read."""
        self._body = body
        self._encoding = encoding
        self._packed = b""
        self._members = 0
        self._begin()
        self.held = Reservation(room)
        """The room that the inflated bytes take up."""
        self._size = 0

    async def chunk(self) -> bytes:
        """Return the next bytes, possibly none; raises as a Body, and InvalidRequest."""
        if not self._packed and not self._body.ended:
            self._packed = await self._body.chunk()
        else:
            await asyncio.sleep(0)  # let other tasks run between pieces
        piece = self._inflate()
        self._size += len(piece)
        if self._size > self.limit_bytes:
            raise self.too_large()
        self.held.take(len(piece))
        if not self._packed:
            self._body.release()
            if self._body.ended:
                self._finish(piece)
        return piece

    def release(self) -> None:
        """Give back all room: the bytes are no longer held."""
        self._body.release()
        self.held.release()

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
        # The input is used up, but output that did not fit into the last piece may be left.
        self.ended = self._inflater.eof
        if not self.ended and len(piece) < PIECE_BYTES:
            raise InvalidRequest(f"The {self._encoding} of the body is cut off.")


def as_sent(headers: Mapping[bytes, bytes], body: Body, room: UploadRoom) -> Body | InflatedBody:
    """Return a body that reads as if it had no Content-Encoding; raises UnsupportedEncoding."""
    encoding = encoding_of(headers)
    return body if encoding is None else InflatedBody(body, encoding, room)
