"""Piecewise response: an answer that is encoded while it is sent."""

from collections.abc import Callable, Iterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.concurrency import INLINE_BYTES, run_off_loop
from server.http.body.compression import deflated
from server.http.open_inference.wire import PIECE_BYTES, Written


class PiecewiseResponse(Response):
    """Sends what was written piece by piece, compressed where `encoding` says so."""

    def __init__(self, written: Written, headers: Mapping[str, str], media_type: str, encoding: str | None) -> None:
        known = dict(headers)
        self._pieces: Iterator[bytes | memoryview] = written.pieces
        self._size = min(written.size, PIECE_BYTES)
        if encoding is None:
            known["content-length"] = str(written.size)
        else:
            known["content-encoding"] = encoding
            self._pieces = deflated(written.pieces, encoding)
        if written.size <= INLINE_BYTES:  # one message, as other answers are
            self._pieces = iter([b"".join(self._pieces)])
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        step: Callable[[], bytes | memoryview | None] = lambda: next(self._pieces, None)  # noqa: E731
        piece = await run_off_loop(step, self._size)
        while piece is not None:
            following = await run_off_loop(step, self._size)
            await send({"type": "http.response.body", "body": bytes(piece), "more_body": following is not None})
            piece = following
