"""Health service: `grpc.health.v1.Health`, for the probes of Kubernetes and load balancers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from server.errors import Draining, InvalidRequest, QueueFull, UploadStalled
from server.grpc.inbox import Inbox, Requests
from server.grpc.messages import INFERENCE_SERVICE, HealthCheckRequest, HealthCheckResponse, parsed
from server.restore.pipeline import Restorer, Status

# The status is polled: its changes are few, and a quarter of a second late at most.
_LOOK_S = 0.25
_SERVICES = ("", INFERENCE_SERVICE)
_MAX_NAME_BYTES = 1024
# No key is needed here, and a message is in memory before its size is known: so one is received at a time, for as long
# as a probe can wait. After that a call is answered as if it had asked for the whole server.
_RECEIVE_S = 0.3
MAX_WATCHES = 256


class HealthService:
    """Reports SERVING while the server takes restorations, from the first warm device to the drain."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._inbox = Inbox(1, _RECEIVE_S, _RECEIVE_S)
        self._stopped = False
        self._watches: dict[asyncio.Event, None] = {}

    def handlers(self) -> dict[str, Any]:
        """Return the handler of each method by name."""
        forms = {"response_serializer": HealthCheckResponse.SerializeToString}
        return {
            "Check": grpc.stream_unary_rpc_method_handler(self._check, **forms),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch, **forms),
        }

    def stop(self) -> None:
        """Send each watcher a last message and end its call, which would otherwise stay open."""
        self._stopped = True
        for ended in self._watches:
            ended.set()
        self._inbox.close()

    async def _check(self, requests: Requests, context: Any) -> Any:
        service = await self._service_of(requests)
        if service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {service[:100]!r}.")
        return HealthCheckResponse(status=self._status(service))

    async def _watch(self, requests: Requests, context: Any) -> AsyncIterator[Any]:
        service = await self._service_of(requests)
        told = None
        ended = asyncio.Event()
        self._watches[ended] = None
        if len(self._watches) > MAX_WATCHES:  # the oldest makes room: its client begins again
            oldest = next(iter(self._watches))
            oldest.set()
            del self._watches[oldest]
        try:
            while True:
                is_last = ended.is_set() or self._stopped
                if (status := self._status(service)) != told:
                    told = status
                    yield HealthCheckResponse(status=status)
                if is_last:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _LOOK_S)
        finally:
            self._watches.pop(ended, None)
        if not self._stopped:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"There are more than {MAX_WATCHES} watches: begin again.")

    async def _service_of(self, requests: Requests) -> str:
        try:
            async with asyncio.timeout(_RECEIVE_S):
                data = await self._inbox.only(requests)
            if len(data) > _MAX_NAME_BYTES:
                return f"of {len(data)} bytes"
            return str(parsed(HealthCheckRequest, data).service)
        except (TimeoutError, UploadStalled, QueueFull, Draining, StopAsyncIteration):
            return ""
        except InvalidRequest:
            return "of a message that is none"

    def _status(self, service: str) -> str:
        if service not in _SERVICES:
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._restorer.status is Status.READY else "NOT_SERVING"
