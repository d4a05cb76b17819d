"""Health service: `grpc.health.v1.Health`, what Kubernetes' probes and load balancers ask."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from server.restorer import Restorer, Status
from server.rpc.messages import INFERENCE_SERVICE, HealthCheckRequest, HealthCheckResponse

# The status is looked up; nobody tells of its changes, which are few and seldom urgent to the tenth of a second.
_LOOK_S = 0.25
_SERVICES = ("", INFERENCE_SERVICE)


class HealthService:
    """Serving while restorations are taken: not before the first device is warm, and not while it drains."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._stopped = False

    def stop(self) -> None:
        """Let those that watch go: none would go by itself."""
        self._stopped = True

    def handlers(self) -> dict[str, Any]:
        """The handler of each method, by its name."""
        forms = {
            "request_deserializer": HealthCheckRequest.FromString,
            "response_serializer": HealthCheckResponse.SerializeToString,
        }
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, **forms),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **forms),
        }

    async def _check(self, request: Any, context: Any) -> Any:
        if request.service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r}.")
        return HealthCheckResponse(status=self._status(request.service))

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        told = None
        while True:
            is_last = self._stopped
            if (status := self._status(request.service)) != told:
                told = status
                yield HealthCheckResponse(status=status)
            if is_last:
                return
            await asyncio.sleep(_LOOK_S)

    def _status(self, service: str) -> str:
        if service not in _SERVICES:
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._restorer.status is Status.READY else "NOT_SERVING"
