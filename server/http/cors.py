"""Cross origin: which origins' scripts may call the server from a browser (Fetch standard, CORS)."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_SENT = ["Authorization", "X-API-Key", "Content-Type", "If-None-Match", "Last-Event-ID", "X-Deadline-Ms", "X-Priority"]
_SENT += ["X-Request-Id"]
_READ = [
    "Content-Disposition",
    "ETag",
    "Location",
    "Retry-After",
    "Server-Timing",
    "X-Degradations",
    "X-Request-Id",
    "X-Restore-Dropped",
    "X-Restore-Mode",
    "X-Restore-Model",
]
_REMEMBERED_S = 600


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS middleware with the headers of this API; keys are headers and never cookies."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=_SENT,
            expose_headers=_READ,
            max_age=_REMEMBERED_S,
        )
