"""Infer route: `POST /v2/models/{model}/infer`, from the first bytes of the body to the answer."""

from functools import partial

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.concurrency import run_off_loop
from server.errors import PromptIRServeError
from server.http import error_responses
from server.http.auth.caller import charge
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.body.cancellation import WhileConnected
from server.http.body.compression import wanted_encoding
from server.http.body.reservation import Reservation
from server.http.middleware.request_context import SERVER_TIMING, note_outcome
from server.http.open_inference.errors import ROOT
from server.http.open_inference.incoming import Incoming
from server.http.open_inference.piecewise_response import PiecewiseResponse
from server.http.open_inference.wire import HEADER_LENGTH, Head, read_head, write_answer
from server.http.restore.answer import RESTORE_MODE, server_timing
from server.http.restore.route import refuse
from server.http.services import Services
from server.open_inference.inference import Call, Inference, Outcome, Reserve
from server.tracing import stage

METHOD = "POST"
PATHS = (f"{ROOT}/models/{{model}}/infer", f"{ROOT}/models/{{model}}/versions/{{version}}/infer")


class InferRoute:
    """Where binary data follows the JSON, that decides before the data is read: refused by shape or by load.

    The data counts as an upload until it is restored: tiles are cut from it.
    """

    def __init__(self, services: Services, room: UploadRoom) -> None:
        self._services = services
        self._room = room
        self._inference = Inference(services.restorer, services.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        limits = self._services.limits
        body = Body(receive, declared_bytes(headers), limits.max_upload_bytes, self._room, limits.upload_stall_s)
        with Reservation(self._room) as held:  # until the results are sent
            try:
                with self._services.restorer.accepted():
                    incoming = Incoming(headers, body, self._room)
                    try:
                        head, call, outcome = await self._infer(scope, incoming, receive, held.take)
                    finally:
                        incoming.release()
                    response = await _response(head, call, outcome, wanted_encoding(headers))
                    del outcome  # the response lets go of it piece by piece
            except PromptIRServeError as error:
                refusal = error_responses.answer(scope, error)
            except ClientDisconnect:
                refusal = error_responses.client_gone(scope)
            else:
                note_outcome(scope, "restored")
                await response(scope, receive, send)
                return
        await refuse(refusal, body, scope, receive, send)  # without the error: its traceback holds what had come

    async def _infer(
        self, scope: Scope, incoming: Incoming, receive: Receive, reserve: Reserve
    ) -> tuple[Head, Call, Outcome]:
        path = scope["path_params"]
        with stage("upload"):
            text = await incoming.text()
            head = await run_off_loop(partial(read_head, text), len(text))
            del text  # what was read from it stays
            document = head.document
            call = self._inference.call(
                path["model"],
                path.get("version", ""),
                document.id,
                document.parameters,
                head.inputs,
                head.outputs,
                partial(charge, scope),
            )
            head.check(call.shape)
            binary = await incoming.binary()
        with WhileConnected(receive):
            outcome = await self._inference.run(call, lambda: head.images(call.shape, binary), incoming.size, reserve)
        return head, call, outcome


async def _response(head: Head, call: Call, outcome: Outcome, encoding: str | None) -> Response:
    written = await run_off_loop(lambda: write_answer(call, outcome, head.wants_binary), outcome.size)
    headers = {
        SERVER_TIMING.decode(): server_timing(outcome.timings).decode(),
        RESTORE_MODE.decode(): outcome.mode.value,
    }
    if written.json_length is not None:
        headers[HEADER_LENGTH.decode()] = str(written.json_length)
    media_type = "application/json" if written.json_length is None else "application/octet-stream"
    return PiecewiseResponse(written, headers, media_type, encoding)
