"""Gate: checks the API key of each call before its message is read."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from server.access.access import Access
from server.access.caller import Caller
from server.errors import PromptIRServeError
from server.grpc.call_log import CallLog
from server.grpc.messages import INFERENCE_SERVICE

LIVENESS = ("ServerLive", "ServerReady")
"""Methods that need no key, as over HTTP."""
_GUARDED = f"/{INFERENCE_SERVICE}/"


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc] # the library has no types
    """Refuses calls without a valid key; health and liveness need none."""

    def __init__(self, access: Access | None, calls: CallLog) -> None:
        self._access = access
        self._calls = calls

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the handler of a call, or one that refuses it."""
        if self._access is None or is_open(details.method):
            return await continuation(details)
        try:
            enter(self._access, details.invocation_metadata)
        except PromptIRServeError as error:
            return self._refusing(error, details.method.removeprefix(_GUARDED))
        return await continuation(details)

    def _refusing(self, error: PromptIRServeError, name: str) -> Any:
        async def refuse(_: Any, context: Any) -> None:
            async with self._calls.call(context, name):
                raise error

        return grpc.stream_stream_rpc_method_handler(refuse)  # the only form that reads nothing by itself


def is_open(method: str) -> bool:
    """Whether a method needs no key."""
    return not method.startswith(_GUARDED) or method.removeprefix(_GUARDED) in LIVENESS


def enter(access: Access, metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller:
    """Return the caller by the key in the metadata of a call; raises Unauthorized, Forbidden."""
    texts = ((key, value) for key, value in metadata or () if isinstance(value, str))
    return access.enter((key.encode(), value.encode("latin-1", "replace")) for key, value in texts)
