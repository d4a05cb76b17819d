"""Restore route: `POST /restore`, from the first bytes of the body to the answer."""

from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import PromptIRServeError
from server.formats.header import peek, probe
from server.http import error_responses
from server.http.auth.caller import caller_of, charge
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.body.cancellation import WhileConnected
from server.http.body.inflated_body import as_sent
from server.http.body.upload import read_upload
from server.http.middleware.request_context import note_outcome
from server.http.restore.answer import Answer, not_modified, restored_answer
from server.http.restore.options import read_options
from server.http.restore.shared_work import SharedWork
from server.http.services import Services
from server.imaging.entity_tag import is_listed
from server.restore.options import Restored
from server.tracing import stage

PATH = "/restore"
METHOD = "POST"
DROPPED_BYTES = 256 * 1024
"""The server reads on and drops so much without being asked; beyond it the client is told that it may stop."""


class RestoreRoute:
    """An ASGI application for this one path: what a framework does for each request would cost more than the codec.

    The header of the image decides as early as it can: refused by size or by load before the body is read on.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._shared = SharedWork[Restored]()
        limits = services.limits
        room = self.room = UploadRoom(
            max(limits.max_uploads_bytes, limits.max_upload_bytes), services.metrics.count_refusal
        )
        services.metrics.watch_uploads(lambda: room.used_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        limits = self._services.limits
        body = Body(receive, declared_bytes(headers), limits.max_upload_bytes, self.room, limits.upload_stall_s)
        try:
            answer = await self._answer(scope, headers, body, receive)
        except PromptIRServeError as error:
            refusal = error_responses.answer(scope, error)
        except ClientDisconnect:
            refusal = error_responses.client_gone(scope)
        else:
            note_outcome(scope, "restored" if answer.status == 200 else "not-modified")
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.content})
            return
        # Without the error, whose traceback holds what had come of the upload, while the rest of it is dropped.
        await refuse(refusal, body, scope, receive, send)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], body: Body, receive: Receive) -> Answer:
        restorer, limits = self._services.restorer, self._services.limits
        options = read_options(scope["query_string"], headers)
        sent = as_sent(headers, body, self.room)
        deadline = restorer.deadline_in(options.patience_s)
        owes = caller_of(scope) is not None

        def look(start: bytes) -> bool:
            nonlocal owes
            size = peek(start, limits)
            if size is not None:
                restorer.admit(*size, options.restore, deadline, options.priority)
                if owes:
                    charge(scope, size[0] * size[1])
                    owes = False
            return size is not None

        with restorer.accepted():
            try:
                with stage("upload"):
                    upload = await read_upload(headers, sent, look)
                if owes:  # its size stands behind more than the first bytes
                    header = await run_in_threadpool(probe, upload.data, limits)
                    charge(scope, header.decoded_pixels)
                tag = await restorer.tag(upload.data, options.restore)
                if options.as_json:
                    tag = f'{tag[:-1]}-json"'
                if is_listed(tag, options.if_none_match):
                    return not_modified(tag)
                filename = upload.filename
                with WhileConnected(receive):
                    # A deadline is one client's own, so its work is too.
                    key = (tag, options.priority) if deadline is None else object()
                    if key in self._shared:
                        sent.release()
                    start = partial(
                        restorer.restore,
                        upload.data,
                        options.restore,
                        deadline=deadline,
                        priority=options.priority,
                        progress=lambda done, total: sent.release(),  # once it is decoded
                    )
                    del upload  # the work alone holds it from here on
                    joined = self._shared.join(key, start)
                    del start
                    restored = await joined
                return restored_answer(restored, filename, tag, as_json=options.as_json)
            finally:
                sent.release()


async def refuse(response: Response, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, even where the client still sends: to close on bytes that nobody read would take the answer from it."""
    declared = body.declared_bytes
    goes_on = declared is not None and declared <= DROPPED_BYTES and response.status_code != 408
    if body.ended or goes_on or response.status_code == error_responses.CLIENT_CLOSED_REQUEST:
        await response(scope, receive, send)
        return
    response.headers["Connection"] = "close"  # a client that reads this stops sending
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await body.discard()
    await send({"type": "http.response.body", "body": b""})
