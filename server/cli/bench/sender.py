"""Sender of POST requests, which records their timing and outcome."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from server.cli.bench.uploads import Body

OK = "200"
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of one request; times are seconds of time.perf_counter.

    `outcome` is the HTTP status, with the slug of a problem document ("429 queue-full"), or the connection error.
    """

    kind: int
    intended_at: float
    sent_at: float
    ended_at: float
    outcome: str
    answered: bool
    retry_after_s: float | None = None
    server_timing: str | None = None

    @property
    def ok(self) -> bool:
        return self.outcome == OK

    @property
    def latency_s(self) -> float:
        """Seconds since the request was due, so that a delayed sender does not hide a slow server."""
        return self.ended_at - self.intended_at

    @property
    def lateness_s(self) -> float:
        """Seconds between the due time and the start of sending."""
        return self.sent_at - self.intended_at


class Sender:
    """Sends images to one URL over as many connections as needed; an async context manager."""

    def __init__(self, url: str, headers: Mapping[str, str], form_field: str | None, timeout_s: float) -> None:
        self._url = url
        self._headers = dict(headers)
        self._form_field = form_field
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, kind: int, body: Body, intended_at: float) -> Answer:
        """Send one image and read the whole response; failures are recorded in the result, never raised."""
        session = self._entered()
        sent_at = time.perf_counter()
        data, headers = self._content(body)
        try:
            async with session.post(self._url, data=data, headers=headers) as response:
                outcome = _outcome(response, await response.read())
                retry_after_s = _seconds(response.headers.get("Retry-After"))
                timing = response.headers.get("Server-Timing")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(kind, intended_at, sent_at, time.perf_counter(), _failure(error), answered=False)
        ended_at = time.perf_counter()
        return Answer(kind, intended_at, sent_at, ended_at, outcome, True, retry_after_s, timing)

    async def get_text(self, url: str) -> str | None:
        """Fetch a page; returns None if the server has none."""
        try:
            async with self._entered().get(url) as response:
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
            return None

    def _entered(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the sender inside its `async with` block")
        return self._session

    def _content(self, body: Body) -> tuple[bytes | aiohttp.FormData, dict[str, str]]:
        if self._form_field is None:
            return body.data, {**self._headers, "Content-Type": body.media_type}
        form = aiohttp.FormData()
        form.add_field(self._form_field, body.data, filename="image", content_type=body.media_type)
        return form, self._headers


def _outcome(response: aiohttp.ClientResponse, data: bytes) -> str:
    status = str(response.status)
    if status == OK:
        return OK if data else "200 without a body"
    if response.content_type != _PROBLEM:
        return status
    try:
        slug = str(json.loads(data)["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return status
    return f"{status} {slug}"


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdecimal() else None


def _failure(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError():
            return "cannot connect"
        case aiohttp.ServerDisconnectedError():
            return "closed without a response"
        case aiohttp.ClientPayloadError():
            return "response cut short"
        case OSError():
            return "connection broken"
        case _:
            return type(error).__name__
