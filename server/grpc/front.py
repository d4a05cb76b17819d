"""Front: the gRPC server, from its open port to the end of its last call."""

import logging
import socket
from typing import Any

import grpc
import grpc.aio

from server.grpc.call_log import CallLog
from server.grpc.gate import Gate
from server.grpc.health_service import HealthService
from server.grpc.inference_service import InferenceService
from server.grpc.messages import HEALTH_SERVICE, INFERENCE_SERVICE
from server.http.body.body import UploadRoom
from server.http.services import Services
from server.settings import HttpSettings

log = logging.getLogger(__name__)

# Names and shapes around the data of a message.
_ALLOWANCE_BYTES = 64 * 1024
# A last resort: each kind of call has a bound of its own far below, so that health is heard beside all of them.
MAX_CALLS = 2048
# After the drain only the last bytes of answers are still on their way.
CLOSE_S = 1.0
_IDENTITY_ONLY = 1
_SHOWN = 60  # characters of a method's name


class RpcFront:
    """Listens beside the HTTP server, in the same event loop; without TLS, as that."""

    def __init__(self, services: Services, room: UploadRoom, http: HttpSettings) -> None:
        calls = CallLog(services.metrics)
        self._gate = Gate(services.access, calls)
        self._inference = InferenceService(services, room, calls)
        self._health = HealthService(services.restorer)
        self._http = http
        self._max_bytes = services.limits.max_upload_bytes + _ALLOWANCE_BYTES
        self._server: grpc.aio.Server | None = None

    def open(self) -> None:
        """Raise OSError with a sentence if the port cannot be had."""
        family = socket.AF_INET6 if ":" in self._http.host else socket.AF_INET
        try:
            socket.create_server((self._http.host, self._http.grpc_port or 0), family=family).close()
        except OSError as error:
            reason = error.strerror or str(error)
            where = f"{self._http.host} port {self._http.grpc_port}"
            raise OSError(f"cannot listen for gRPC on {where}: {reason}") from error

    async def start(self) -> None:
        """Open the port; raises RuntimeError if it cannot be had."""
        options = (
            ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # or a second server would take half of the calls without a word
            # What inflates is not bounded by the length above, so that nothing compressed is read.
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
            # Windows that grow with the traffic would hold megabytes of messages that nobody has asked for.
            ("grpc.http2.bdp_probe", 0),
        )
        self._server = grpc.aio.server(options=options, interceptors=(self._gate,), maximum_concurrent_rpcs=MAX_CALLS)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(INFERENCE_SERVICE, self._inference.handlers()),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health.handlers()),
                _NotOffered(),
            )
        )
        host = f"[{self._http.host}]" if ":" in self._http.host else self._http.host
        port = self._server.add_insecure_port(f"{host}:{self._http.grpc_port or 0}")
        await self._server.start()
        log.info("listening for gRPC", extra={"host": self._http.host, "port": port})

    async def stop(self) -> None:
        """End it; what still runs then has a moment for its last bytes."""
        self._health.stop()
        if self._server is not None:
            self._health.stop()
            self._inference.close()
            await self._server.stop(CLOSE_S)


class _NotOffered(grpc.GenericRpcHandler):  # type: ignore[misc] # the library has no types
    """Refuses the methods of Triton that are not here in a sentence; gRPC's own says that there is no method."""

    def service(self, details: Any) -> Any:
        if not details.method.startswith(f"/{INFERENCE_SERVICE}/"):
            return None
        name = details.method.rpartition("/")[2][:_SHOWN]

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{name} is not offered: models are neither loaded nor traced by request, and no memory is shared.",
            )

        return grpc.stream_stream_rpc_method_handler(refuse)  # which reads nothing by itself
