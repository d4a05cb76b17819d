"""Inference service: the methods of `inference.GRPCInferenceService`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf import json_format

from server.access.caller import Caller
from server.api.body import UploadRoom
from server.api.error_responses import status_of
from server.api.services import Services
from server.aside import aside
from server.errors import InvalidRequest, PromptIRServeError, UploadStalled
from server.open_inference import models
from server.open_inference.inference import Charge, Inference
from server.open_inference.statistics import statistics
from server.restorer import Status
from server.rpc import messages, wire
from server.rpc.call_log import CallLog

# The time in which a whole message must come, in times of that which each 64 KiB of an upload over HTTP has.
_STALLS = 10

# What a stranger may see where keys are asked for, as over HTTP.
_OPEN = ("ServerLive", "ServerReady")

Requests = AsyncIterator[bytes]


class InferenceService:
    """The same use case, limits and room for uploads as over HTTP."""

    def __init__(self, services: Services, room: UploadRoom) -> None:
        self._services = services
        self._room = room
        self._inference = Inference(services.restorer, services.limits)
        self._calls = CallLog(services.metrics)

    def handlers(self) -> dict[str, Any]:
        """The handler of each method, by its name."""
        documents: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._is_ready},
            "ServerMetadata": self._server_metadata,
            "ModelReady": lambda asked: {"ready": bool(models.find(asked.name, asked.version)) and self._is_ready},
            "ModelMetadata": lambda asked: models.find(asked.name, asked.version).metadata(self._backend),
            "ModelConfig": lambda asked: {"config": models.find(asked.name, asked.version).config(self._backend)},
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
        }
        return {name: self._document(name, document) for name, document in documents.items()} | {
            # A stream on this side only: so a message is read when there is room for it, and for a bounded time.
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._infer_stream),
        }

    @property
    def _backend(self) -> str:
        return self._services.settings.backend.backend

    @property
    def _is_ready(self) -> bool:
        return self._services.restorer.status is Status.READY

    def _server_metadata(self, _: Any) -> dict[str, Any]:
        return {
            "name": models.SERVER_NAME,
            "version": self._services.version,
            "extensions": [*models.EXTENSIONS],
        }

    def _statistics(self, asked: Any) -> dict[str, Any]:
        chosen = [models.find(asked.name, asked.version)] if asked.name else list(models.MODELS.values())
        document = statistics(chosen, self._services.metrics.registry)
        for each in document["model_stats"]:
            del each["batch_stats"]
        return document

    def _index(self, _: Any) -> dict[str, Any]:
        state = "READY" if self._is_ready else "UNAVAILABLE"
        return {"models": [{"name": name, "version": models.VERSION, "state": state} for name in models.MODELS]}

    def _document(self, name: str, document: Callable[[Any], Any]) -> Any:
        kind = messages.message(f"{name}Response")

        async def answer(request: Any, context: Any) -> Any:
            async with self._calls.told(context):
                if name not in _OPEN:
                    self._entered(context)
                return json_format.ParseDict(document(request), kind())

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=messages.message(f"{name}Request").FromString,
            response_serializer=kind.SerializeToString,
        )

    async def _infer(self, requests: Requests, context: Any) -> bytes:
        async with self._calls.call(context, "ModelInfer"):
            with self._services.restorer.accepted():
                charge = self._charged(context)
                data = await self._received(requests)
                response = await self._answer(data, charge, context.time_remaining())
            return await aside(response.SerializeToString, len(data))

    async def _infer_stream(self, requests: Requests, context: Any) -> AsyncIterator[bytes]:
        async with self._calls.told(context):
            async for data in requests:
                answer = await self._streamed(data, context)
                yield await aside(answer.SerializeToString, len(data))

    async def _streamed(self, data: bytes, context: Any) -> Any:
        """An error is the answer to its request, and the stream goes on."""
        began, status, outcome = time.perf_counter(), 200, "restored"
        try:
            with self._services.restorer.accepted():
                response = await self._answer(data, self._charged(context), context.time_remaining())
            return messages.ModelStreamInferResponse(infer_response=response)
        except PromptIRServeError as error:
            status, outcome = status_of(type(error)), error.slug
            answer = messages.ModelStreamInferResponse(error_message=error.detail)
            answer.infer_response.id = _id_of(data)
            return answer
        finally:
            self._calls.note("ModelStreamInfer", status, outcome, time.perf_counter() - began)

    def _charged(self, context: Any) -> Charge:
        """Charge a request to the key in the metadata of its call; raises Unauthorized, Forbidden, QuotaExceeded."""
        caller = self._entered(context)
        if caller is None:
            return lambda pixels: None
        caller.charge_request()
        return caller.charge_pixels

    def _entered(self, context: Any) -> Caller | None:
        access = self._services.access
        if access is None:
            return None
        return access.enter((key.encode(), value.encode("latin-1", "replace")) for key, value in _texts(context))

    async def _received(self, requests: Requests) -> bytes:
        patience_s = self._services.limits.upload_stall_s * _STALLS
        try:
            async with asyncio.timeout(patience_s):
                return await anext(aiter(requests))
        except TimeoutError:
            raise UploadStalled(f"The request must come within {patience_s:g} seconds.") from None
        except StopAsyncIteration:
            raise InvalidRequest("The call has no request, or one that is larger than what is taken.") from None

    async def _answer(self, data: bytes, charge: Charge, patience_s: float | None) -> Any:
        self._room.take(len(data))
        try:
            request = await aside(lambda: _parsed(data), len(data))
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
            outcome = await self._inference.run(call, lambda: wire.images_of(request, call.shape), len(data))
            is_raw = len(request.raw_input_contents) > 0
        finally:
            self._room.give_back(len(data))
        return await aside(lambda: wire.answer(call, outcome, is_raw=is_raw), outcome.size)


def _texts(context: Any) -> list[tuple[str, str]]:
    """The metadata of a call, without what is binary."""
    return [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]


def _parsed(data: bytes) -> Any:
    try:
        return messages.ModelInferRequest.FromString(data)
    except messages.DecodeError:
        raise InvalidRequest("The message is no ModelInferRequest.") from None


def _id_of(data: bytes) -> str:
    try:
        return str(_parsed(data).id)
    except InvalidRequest:
        return ""
