"""Front: the gRPC server, from its open port to the end of its last call."""

import logging
import socket
from typing import Any

import grpc
import grpc.aio

from server.access.access import Access
from server.grpc.call_log import CallLog
from server.grpc.document_methods import DocumentMethods
from server.grpc.gate import Gate
from server.grpc.health_service import HealthService
from server.grpc.inference_service import InferenceService
from server.grpc.messages import HEALTH_SERVICE, INFERENCE_SERVICE
from server.metrics import Metrics
from server.restore.byte_room import ByteRoom
from server.restore.pipeline import Restorer
from server.settings import Settings

log = logging.getLogger(__name__)

# Room for names and shapes around the data of a message.
_ALLOWANCE_BYTES = 64 * 1024
# A last resort: each kind of call has a much lower bound of its own, so that health checks always get through.
MAX_CALLS = 2048
# After the drain only the last bytes of answers are still being sent.
CLOSE_S = 1.0
_IDENTITY_ONLY = 1
_SHOWN = 60  # characters of a method's name


class RpcFront:
    """Listens beside the HTTP server, in the same event loop; like that without TLS."""

    def __init__(
        self,
        settings: Settings,
        restorer: Restorer,
        access: Access | None,
        metrics: Metrics,
        room: ByteRoom,
        version: str,
    ) -> None:
        calls, limits = CallLog(metrics), settings.limits
        documents = DocumentMethods(restorer, metrics.registry, settings.backend.backend, version, calls)
        self._gate = Gate(access, calls)
        self._inference = InferenceService(restorer, limits, access, metrics, room, documents, calls)
        self._health = HealthService(restorer)
        self._http = settings.http
        self._max_bytes = limits.max_upload_bytes + _ALLOWANCE_BYTES
        self._server: grpc.aio.Server | None = None

    def open(self) -> None:
        """Check that the port is free; raises OSError with a sentence if it is not."""
        family = socket.AF_INET6 if ":" in self._http.host else socket.AF_INET
        try:
            address = (self._http.host, self._http.grpc_port or 0)
            socket.create_server(address, family=family, reuse_port=self._shares_port).close()
        except OSError as error:
            reason = error.strerror or str(error)
            where = f"{self._http.host} port {self._http.grpc_port}"
            raise OSError(f"cannot listen for gRPC on {where}: {reason}") from error

    @property
    def _shares_port(self) -> bool:
        return self._http.http_processes > 1

    async def start(self) -> None:
        """Open the port; raises RuntimeError if it is taken."""
        options = (
            ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.max_send_message_length", -1),
            # Otherwise off, or a second server could take half of the calls unnoticed.
            ("grpc.so_reuseport", int(self._shares_port)),
            # The length above does not bound what a compressed message inflates to, so none is read.
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
            # Windows that grow with the traffic would buffer megabytes of messages before their turn.
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
        """Close the port; running calls have CLOSE_S for their last bytes."""
        self._health.stop()
        if self._server is not None:
            self._health.stop()
            self._inference.close()
            await self._server.stop(CLOSE_S)


class _NotOffered(grpc.GenericRpcHandler):  # type: ignore[misc] # the library has no types
    """Refuses Triton's other methods in a sentence; gRPC itself would only say that the method is unknown."""

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
