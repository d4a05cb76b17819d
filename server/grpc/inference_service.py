"""Inference service: the methods of `inference.GRPCInferenceService` that restore."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from server.concurrency import run_off_loop
from server.errors import InvalidRequest, QueueFull
from server.grpc import messages, wire
from server.grpc.call_log import CallLog, foreseen
from server.grpc.codes import detail_of
from server.grpc.document_methods import DocumentMethods
from server.grpc.field_count import check_fields
from server.grpc.gate import enter
from server.grpc.inbox import Inbox, Requests, opened
from server.http.body.body import UploadRoom
from server.http.body.reservation import Reservation
from server.http.error_responses import CLIENT_CLOSED_REQUEST, status_of
from server.http.services import Services
from server.open_inference.inference import Charge, Inference

MAX_CALLS = 256
"""Restored at the same time, those of streams included."""
# Received at the same time, and streams that are open and ask for nothing at the moment.
MAX_RECEIVED, MAX_IDLE_STREAMS = 32, 64
# The time in which a whole message must come, in times of that which each 64 KiB of an upload over HTTP has; and as
# long as others wait to send theirs, in seconds.
_STALLS, _GRACE_S = 10, 5.0
_BUSY_S = 1.0


class InferenceService:
    """The same use case, limits and room for uploads as over HTTP."""

    def __init__(self, services: Services, room: UploadRoom, calls: CallLog) -> None:
        self._services = services
        self._room = room
        self._inference = Inference(services.restorer, services.limits)
        self._calls = calls
        self._documents = DocumentMethods(services, calls)
        patience_s = services.limits.upload_stall_s * _STALLS
        self._inbox = Inbox(MAX_RECEIVED, patience_s, _GRACE_S)
        self._streams = Inbox(MAX_IDLE_STREAMS, patience_s, _GRACE_S)
        self._active = 0

    def handlers(self) -> dict[str, Any]:
        """The handler of each method, by its name."""
        return self._documents.handlers() | {
            # A stream on this side only: so a message is received when its turn has come, and for a bounded time.
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._infer_stream),
        }

    def close(self) -> None:
        """End the calls and streams that have asked for nothing: all that was accepted has been answered."""
        self._documents.close()
        self._inbox.close()
        self._streams.close()

    async def _infer(self, requests: Requests, context: Any) -> bytes:
        async with self._calls.call(context, "ModelInfer"):
            with self._services.restorer.accepted():
                charge = self._charged(context)
                data = await self._received(requests)
                held = Reservation(self._room)
                try:
                    with self._counted():
                        answer = await self._answer(data, charge, context.time_remaining(), held)
                except BaseException:
                    held.release()
                    raise
                context.add_done_callback(lambda _: held.release())  # once the answer has been sent
                return answer

    async def _infer_stream(self, requests: Requests, context: Any) -> AsyncIterator[bytes]:
        async with self._calls.told(context, "ModelStreamInfer"), opened(requests) as received:
            while True:
                try:
                    data = await self._streams.next(received)
                except StopAsyncIteration:
                    return
                with Reservation(self._room) as held:
                    yield await self._streamed(data, context, held)

    async def _streamed(self, data: bytes, context: Any, held: Reservation) -> bytes:
        """An error is the answer to its request, and the stream goes on."""
        began, status, outcome = time.perf_counter(), 200, "restored"
        try:
            with self._services.restorer.accepted(), self._counted():
                answer = await self._answer(data, self._charged(context), context.time_remaining(), held)
            return wire.stream_answer(answer)
        except Exception as error:
            told = foreseen(error, "ModelStreamInfer")
            status, outcome = status_of(type(told)), told.slug
            return wire.stream_error(detail_of(told), _id_of(data))
        except BaseException:  # cancelled, as in the call log
            status, outcome = CLIENT_CLOSED_REQUEST, "client-closed"
            raise
        finally:
            self._calls.note("ModelStreamInfer", status, outcome, time.perf_counter() - began)

    def _charged(self, context: Any) -> Charge:
        """Charge a request to the key in the metadata of its call; raises Unauthorized, Forbidden, QuotaExceeded."""
        if self._services.access is None:
            return lambda pixels: None
        # Of a stream each message: its key may have been removed since it began.
        caller = enter(self._services.access, context.invocation_metadata())
        caller.charge_request()
        return caller.charge_pixels

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._active >= MAX_CALLS:
            self._services.metrics.count_refusal(QueueFull.slug)
            raise QueueFull(f"{MAX_CALLS} calls are being answered.", retry_after_s=_BUSY_S, max_calls=MAX_CALLS)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def _received(self, requests: Requests) -> bytes:
        try:
            return await self._inbox.only(requests)
        except StopAsyncIteration:
            raise InvalidRequest("The call has no request, or one that is larger than what is taken.") from None

    async def _answer(self, data: bytes, charge: Charge, patience_s: float | None, held: Reservation) -> bytes:
        """The serialized answer to a request; what it takes of the room stays held."""
        held.take(len(data))
        request = await run_off_loop(lambda: _parsed(data), len(data))
        call = self._inference.call(
            request.model_name,
            request.model_version,
            request.id,
            wire.plain(request.parameters),
            wire.inputs_of(request),
            wire.outputs_of(request),
            charge,
            patience_s,
        )
        is_raw = len(request.raw_input_contents) > 0
        outcome = await self._inference.run(call, lambda: wire.images_of(request, call.shape), len(data), held.take)
        return await run_off_loop(lambda: wire.answer(call, outcome, is_raw=is_raw), outcome.size)


def _parsed(data: bytes) -> Any:
    check_fields(data)
    return messages.parsed(messages.ModelInferRequest, data)


def _id_of(data: bytes) -> str:
    try:
        return str(_parsed(data).id)
    except InvalidRequest:
        return ""
