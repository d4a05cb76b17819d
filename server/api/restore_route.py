"""Restore route: `POST /restore`, from the first bytes of the body to the answer."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api import error_responses
from server.api.body import Body, UploadRoom
from server.api.cancellation import WhileConnected
from server.api.options import read_options
from server.api.request_context import SERVER_TIMING, note_outcome
from server.api.services import Services
from server.api.upload import read_upload
from server.errors import PromptIRServeError
from server.imaging.codec import OutputFormat
from server.imaging.header import peek
from server.restorer import Restored, Timings

PATH = "/restore"
METHOD = "POST"
_LONGEST_STEM = 100
# The server reads on and drops so much without being asked; beyond it the client is told that it may stop.
_DROPPED_BYTES = 256 * 1024


class RestoreRoute:
    """An ASGI application for this one path: what a framework does for each request would cost more than the codec.

    The header of the image decides as early as it can: refused by size or by load before the body is read on.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        limits = services.limits
        room = self._room = UploadRoom(max(limits.max_uploads_bytes, limits.max_upload_bytes))
        services.metrics.watch_uploads(lambda: room.used_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        body = Body(receive, _declared_bytes(headers), self._services.limits.max_upload_bytes, self._room)
        try:
            filename, restored = await self._restore(scope, headers, body, receive)
        except PromptIRServeError as error:
            await _refuse(error_responses.answer(scope, error), body, scope, receive, send)
        except ClientDisconnect:
            await error_responses.client_gone(scope)(scope, receive, send)
        else:
            note_outcome(scope, "restored")
            await send({"type": "http.response.start", "status": 200, "headers": _headers(filename, restored)})
            await send({"type": "http.response.body", "body": restored.data})

    async def _restore(
        self, scope: Scope, headers: dict[bytes, bytes], body: Body, receive: Receive
    ) -> tuple[str | None, Restored]:
        restorer, limits = self._services.restorer, self._services.limits
        options = read_options(scope["query_string"], headers)
        deadline = restorer.deadline_in(options.patience_s)

        def look(start: bytes) -> bool:
            size = peek(start, limits)
            if size is not None:
                restorer.admit(*size, deadline, options.priority)
            return size is not None

        with restorer.accepted():
            try:
                upload = await read_upload(headers, body, look)
                filename = upload.filename
                with WhileConnected(receive):
                    opened = await restorer.open(upload.data)
                    del upload  # and what it takes up, from here on
                    body.release()
                    restored = await restorer.finish(
                        opened, options.output, options.quality, deadline, options.priority
                    )
                return filename, restored
            finally:
                body.release()


def _declared_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    declared = headers.get(b"content-length", b"")
    return int(declared) if declared.isdigit() else None


async def _refuse(response: Response, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, even where the client still sends: to close on bytes that nobody read would take the answer from it."""
    declared = body.declared_bytes
    if body.ended or (declared is not None and declared <= _DROPPED_BYTES):
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"  # a client that reads this stops sending
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await body.discard()
    await send({"type": "http.response.body", "body": b""})


def _headers(filename: str | None, restored: Restored) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-length", b"%d" % len(restored.data)),
        (b"content-type", restored.output.media_type.encode()),
        (SERVER_TIMING, _server_timing(restored.timings)),
        (b"content-disposition", _disposition(filename, restored.output).encode("latin-1")),
    ]


def _server_timing(timings: Timings) -> bytes:
    # W3C Server Timing: durations in milliseconds; the request context adds the total.
    return b'decode;dur=%.2f, queue;dur=%.2f, inference;dur=%.2f, encode;dur=%.2f, batch;desc="%d"' % (
        timings.decode_s * 1e3,
        timings.queue_s * 1e3,
        timings.inference_s * 1e3,
        timings.encode_s * 1e3,
        timings.batch_size,
    )


def _disposition(filename: str | None, output: OutputFormat) -> str:
    # RFC 6266: a plain ASCII name for everyone, and the true one for those who read filename*.
    if not filename:
        return f'inline; filename="restored{output.suffix}"'
    stem = PurePosixPath(filename.replace("\\", "/")).stem[:_LONGEST_STEM]
    stem = re.sub(r"[\x00-\x1f\x7f\"]", "", stem)
    name = f"{stem}-restored{output.suffix}" if stem else f"restored{output.suffix}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f'inline; filename="{plain}"'
    return disposition if plain == name else f"{disposition}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
