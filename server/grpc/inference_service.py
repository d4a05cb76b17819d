"""Inference service: the methods of `inference.GRPCInferenceService` that restore images."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from server.access.access import Access
from server.access.caller import Caller
from server.concurrency import run_off_loop
from server.errors import InvalidRequest, QueueFull
from server.errors.memory import drop_frames
from server.errors.problem import CLIENT_CLOSED_REQUEST, status_of
from server.grpc import messages, wire
from server.grpc.call_log import CallLog, foreseen
from server.grpc.codes import detail_of
from server.grpc.document_methods import DocumentMethods
from server.grpc.field_count import check_fields
from server.grpc.gate import enter
from server.grpc.inbox import Inbox, Requests, opened
from server.metrics import Metrics
from server.open_inference.inference import Inference
from server.restore.byte_room import ByteRoom, Reservation
from server.restore.pipeline import Restorer
from server.settings import LimitSettings

MAX_CALLS = 256
"""Most calls restored at the same time, messages of streams included."""
# Messages received at the same time, and open streams without a request at the moment.
MAX_RECEIVED, MAX_IDLE_STREAMS = 32, 64
# The time for a whole message, as a multiple of the time for 64 KiB of an upload over HTTP; and in seconds while other
# calls wait.
_STALLS, _GRACE_S = 10, 5.0
_BUSY_S = 1.0


class InferenceService:
    """Restores with the same limits and room for uploads as over HTTP."""

    def __init__(
        self,
        restorer: Restorer,
        limits: LimitSettings,
        access: Access | None,
        metrics: Metrics,
        room: ByteRoom,
        documents: DocumentMethods,
        calls: CallLog,
    ) -> None:
        self._restorer = restorer
        self._access = access
        self._metrics = metrics
        self._room = room
        self._inference = Inference(restorer, limits)
        self._documents = documents
        self._calls = calls
        patience_s = limits.upload_stall_s * _STALLS
        self._inbox = Inbox(MAX_RECEIVED, patience_s, _GRACE_S)
        self._streams = Inbox(MAX_IDLE_STREAMS, patience_s, _GRACE_S)
        self._active = 0

    def handlers(self) -> dict[str, Any]:
        """Return the handler of each method by name."""
        return self._documents.handlers() | {
            # A stream on this side only, so that a message is received when its turn comes, and in bounded time.
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._infer_stream),
        }

    def close(self) -> None:
        """End calls and streams without a request; accepted requests have been answered."""
        self._documents.close()
        self._inbox.close()
        self._streams.close()

    async def _infer(self, requests: Requests, context: Any) -> bytes:
        async with self._calls.call(context, "ModelInfer"):
            with self._restorer.accepted():
                caller = self._charged(context)
                held = Reservation(self._room)
                try:
                    answer = await self._answer_one(requests, context, caller, held)
                except BaseException:
                    held.release()
                    raise
                context.add_done_callback(lambda _: held.release())  # once the answer has been sent
                return answer

    async def _answer_one(self, requests: Requests, context: Any, caller: Caller | None, held: Reservation) -> bytes:
        # In a frame of its own, which has ended when an error is answered: see `drop_frames`.
        data = await self._received(requests)
        with self._counted():
            return await self._answer(data, caller, context.time_remaining(), held)

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
        """Answer one message of a stream; an error is an answer too, and the stream continues."""
        began, status, outcome = time.perf_counter(), 200, "restored"
        try:
            with self._restorer.accepted(), self._counted():
                answer = await self._answer(data, self._charged(context), context.time_remaining(), held)
            return wire.stream_answer(answer)
        except Exception as error:
            told = foreseen(error, "ModelStreamInfer")
            status, outcome, detail = status_of(type(told)), told.slug, detail_of(told)
            drop_frames(error)
            del told  # a cycle with this frame, which has the message
            return wire.stream_error(detail, _id_of(data))
        except BaseException:  # cancelled, as in the call log
            status, outcome = CLIENT_CLOSED_REQUEST, "client-closed"
            raise
        finally:
            self._calls.note("ModelStreamInfer", status, outcome, time.perf_counter() - began)

    def _charged(self, context: Any) -> Caller | None:
        """Charge a request to the key in the metadata of its call; raises Unauthorized, Forbidden, QuotaExceeded."""
        if self._access is None:
            return None
        # Each message of a stream is checked: its key may have been removed meanwhile.
        caller = enter(self._access, context.invocation_metadata())
        caller.charge_request()
        return caller

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._active >= MAX_CALLS:
            self._metrics.count_refusal(QueueFull.slug)
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

    async def _answer(self, data: bytes, caller: Caller | None, patience_s: float | None, held: Reservation) -> bytes:
        """Return the serialized answer to a request; its bytes and those of the results stay reserved."""
        held.take(len(data))
        request = await run_off_loop(lambda: _parsed(data), len(data))
        call = self._inference.call(
            request.model_name,
            request.model_version,
            request.id,
            wire.plain(request.parameters),
            wire.inputs_of(request),
            wire.outputs_of(request),
            caller,
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
