"""Connection: what both clients know of their server, and how httpx's words become a flow's."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from promptir_client.flows import Call
from promptir_client.retries import Retries
from promptir_client.steps import Lost, Reply, Request

# Whoever does not take a connection within this is not there; another attempt may find another one.
CONNECT_S = 10.0
LATE = Lost("the time of the call is over", sent=True, late=True)


@dataclass(frozen=True)
class Connection:
    """The server's URL, the key to it and the policy of every call; `timeout_s` None never gives up."""

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
            raise ValueError(f"{self.url} is not the URL of a server: it begins with http:// or https://")
        if not parsed.host:
            raise ValueError(f"{self.url} is not the URL of a server: it names no host")

    def call(self) -> Call:
        """One call within the usual time."""
        return self.waiting(self.timeout_s)

    def waiting(self, timeout_s: float | None) -> Call:
        """One call of at most so many seconds."""
        return Call(self.retries, self.clock, timeout_s)

    def arguments(self, request: Request, timeout_s: float) -> dict[str, Any]:
        """What httpx builds the request from."""
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
    """What a failure of httpx means to a flow."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    late = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
    return Lost(reason, sent=not unsent, late=late)


def reply_of(response: httpx.Response, content: bytes) -> Reply:
    """An answer that has been read."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)
