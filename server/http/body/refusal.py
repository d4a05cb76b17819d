"""Refusals of requests whose body may still be on its way."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import PromptIRServeError
from server.errors.problem import CLIENT_CLOSED_REQUEST
from server.http import error_responses
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.settings import LimitSettings

DROPPED_BYTES = 256 * 1024
"""The rest of a body of up to this size is dropped and the connection serves on; a larger one is told to stop."""


async def refuse(response: Response, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer while the client may still be sending: to close with unread bytes would lose it the answer."""
    declared = body.declared_bytes
    serves_on = declared is not None and declared <= DROPPED_BYTES and response.status_code != 408
    if body.ended or serves_on or response.status_code == CLIENT_CLOSED_REQUEST:
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"  # a client that reads this stops sending
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await body.discard()
    await send({"type": "http.response.body", "body": b""})


async def refuse_unread(
    error: PromptIRServeError,
    limits: LimitSettings,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    closes: bool = False,
) -> None:
    """Answer a request of whose body nothing was read; nothing of it is kept."""
    response = error_responses.answer(scope, error)
    if closes:
        response.headers["Connection"] = "close"
    headers = dict(scope["headers"])
    declared, limit = declared_bytes(headers), limits.max_upload_bytes
    if not declared and b"transfer-encoding" not in headers:
        await response(scope, receive, send)
        return
    body = Body(receive, declared, limit, UploadRoom(limit), limits.upload_stall_s)
    await refuse(response, body, scope, receive, send)
