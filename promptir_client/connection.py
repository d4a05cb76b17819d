"""Connection parameters shared by both clients, and conversion of httpx results to flow outcomes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from promptir_client.flows import Call
from promptir_client.retries import Retries
from promptir_client.steps import Lost, Reply, Request

# A server that does not accept a connection within this time counts as down; a retry may reach another server.
CONNECT_S = 10.0
LATE = Lost("the call timed out", sent=True, late=True)


@dataclass(frozen=True)
class Connection:
    """URL of the server, API key and retry policy; `timeout_s` None means no time limit."""

    url: str
    api_key: str | None
    timeout_s: float | None
    retries: Retries
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url} is not the URL of a server: {error}") from None
        if parsed.scheme not in ("http", "https"):
            raise ValueError(f"{self.url} is not the URL of a server: it must begin with http:// or https://")
        if not parsed.host:
            raise ValueError(f"{self.url} is not the URL of a server: it names no host")

    def call(self) -> Call:
        """Create a call with the default timeout."""
        return self.waiting(self.timeout_s)

    def waiting(self, timeout_s: float | None) -> Call:
        """Create a call that takes at most `timeout_s` seconds."""
        return Call(self.retries, self.clock, timeout_s)

    def arguments(self, request: Request, timeout_s: float) -> dict[str, Any]:
        """Return the arguments from which httpx builds the request."""
        headers = dict(request.headers)
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        left = None if math.isinf(timeout_s) else timeout_s
        return {
            "method": request.method,
            "url": f"{self.url.rstrip('/')}/{request.path}",
            "params": dict(request.parameters),
            "headers": headers,
            "content": request.content,
            "timeout": httpx.Timeout(left, connect=min(CONNECT_S, timeout_s)),
        }


def lost_by(error: httpx.RequestError) -> Lost:
    """Convert an httpx error to the outcome of a step."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    late = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
    return Lost(reason, sent=not unsent, late=late)


def reply_of(response: httpx.Response, content: bytes) -> Reply:
    """Convert an httpx response to the outcome of a step."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)
