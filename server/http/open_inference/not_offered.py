"""Not offered: the calls of Triton's HTTP extensions that this server refuses in a sentence, as gRPC does."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import NotOffered
from server.http.open_inference.errors import ROOT

_METHODS = ["GET", "POST"]
_MEMORY = "no memory is shared with clients: send tensors in the request"
_LOADING = "models are not loaded or unloaded by request"
_SETTINGS = "tracing and logging are set when the server starts"
# Paths below the root, with what is said of them.
_REASONS = {
    "/systemsharedmemory/{rest:path}": _MEMORY,
    "/cudasharedmemory/{rest:path}": _MEMORY,
    "/repository/models/{model}/load": _LOADING,
    "/repository/models/{model}/unload": _LOADING,
    "/trace/setting": _SETTINGS,
    "/models/{model}/trace/setting": _SETTINGS,
    "/logging": _SETTINGS,
    "/models/{model}/generate": "images are restored, not generated from text",
    "/models/{model}/generate_stream": "images are restored, not generated from text",
}


def routes() -> list[Route]:
    """A route for each of them; none is in the OpenAPI document."""
    return [_route(path, reason) for path, reason in _REASONS.items()]


def _route(path: str, reason: str) -> Route:
    async def refuse(request: Request) -> Response:
        raise NotOffered(f"This is not offered: {reason}.")

    return Route(f"{ROOT}{path}", refuse, methods=_METHODS, include_in_schema=False)
