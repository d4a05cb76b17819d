"""Document methods: the methods of the inference service that describe the server and its models."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import json_format
from prometheus_client import CollectorRegistry

from server.errors import InvalidRequest
from server.grpc import messages
from server.grpc.call_log import CallLog
from server.grpc.gate import LIVENESS
from server.grpc.inbox import Inbox, Requests
from server.open_inference import models
from server.open_inference.models import Model, Models
from server.open_inference.statistics import statistics
from server.restore.pipeline import Restorer, Status

# Of a message: the name and the version of a model.
MAX_BYTES = 4096
# Small messages arrive at once, so two places are enough. A large message is in memory before its size is known.
_PLACES, _PATIENCE_S, _GRACE_S = 2, 5.0, 1.0


class DocumentMethods:
    """Answers with the documents of `/v2`, without charge."""

    def __init__(
        self, restorer: Restorer, registry: CollectorRegistry, backend: str, version: str, calls: CallLog
    ) -> None:
        self._restorer = restorer
        self._models = Models(restorer.models)
        self._registry = registry
        self._backend = backend
        self._version = version
        self._calls = calls
        self._inbox = Inbox(_PLACES, _PATIENCE_S, _GRACE_S)

    def handlers(self) -> dict[str, Any]:
        """Return the handler of each method by name."""
        documents: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._is_ready},
            "ServerMetadata": self._server_metadata,
            "ModelReady": lambda asked: {"ready": bool(self._found(asked)) and self._is_ready},
            "ModelMetadata": lambda asked: self._found(asked).metadata(self._backend),
            "ModelConfig": lambda asked: {"config": self._found(asked).config(self._backend)},
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
        }
        return {name: self._handler(name, document) for name, document in documents.items()}

    def close(self) -> None:
        """Receive no more messages."""
        self._inbox.close()

    @property
    def _is_ready(self) -> bool:
        return self._restorer.status is Status.READY

    def _found(self, asked: Any) -> Model:
        return self._models.find(asked.name, asked.version)

    def _server_metadata(self, _: Any) -> dict[str, Any]:
        return {
            "name": models.SERVER_NAME,
            "version": self._version,
            "extensions": [*models.EXTENSIONS],
        }

    def _statistics(self, asked: Any) -> dict[str, Any]:
        chosen = [self._found(asked)] if asked.name else list(self._models.by_name.values())
        document = statistics(chosen, self._registry)
        for each in document["model_stats"]:
            del each["batch_stats"]
        return document

    def _index(self, _: Any) -> dict[str, Any]:
        state = "READY" if self._is_ready else "UNAVAILABLE"
        names = self._models.by_name
        return {"models": [{"name": name, "version": models.VERSION, "state": state} for name in names]}

    def _handler(self, name: str, document: Callable[[Any], Any]) -> Any:
        asked, answered = messages.message(f"{name}Request"), messages.message(f"{name}Response")

        async def answer(requests: Requests, context: Any) -> Any:
            async with self._calls.told(context, name):
                # The requests that need no key are empty, and are not even received.
                data = b"" if name in LIVENESS else await self._received(requests)
                return json_format.ParseDict(document(messages.parsed(asked, data)), answered())

        # A stream on this side only, so that a message is received when its turn comes.
        return grpc.stream_unary_rpc_method_handler(answer, response_serializer=answered.SerializeToString)

    async def _received(self, requests: Requests) -> bytes:
        try:
            data = await self._inbox.only(requests)
        except StopAsyncIteration:
            raise InvalidRequest("The call has no request.") from None
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"A request of {len(data)} bytes; one that asks about a model has up to {MAX_BYTES}.")
        return data
