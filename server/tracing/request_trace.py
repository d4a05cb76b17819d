"""The RequestTrace: one request that is traced, found by all that works for it."""

import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol


class RequestTrace(Protocol):
    """The span of a request; its times are seconds of `time.monotonic`."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, the caller's own where it sent a `traceparent`."""
        ...

    @property
    def exemplar(self) -> dict[str, str] | None:
        """What leads from a metric to this trace; None for a trace that is not sampled and so found nowhere."""
        ...

    def add(self, name: str, began: float, ended: float) -> None:
        """Add a child span that is over already."""
        ...

    def end(self, scope: MutableMapping[str, Any], status: int | None, outcome: str | None) -> None:
        """End the request; one without an outcome (probes, scrapes) leaves no trace."""
        ...


class Tracing(Protocol):
    """Where traces go."""

    def start(self) -> None:
        """Begin to send what ends."""
        ...

    def begin(self, scope: MutableMapping[str, Any], request_id: str) -> RequestTrace:
        """Begin the trace of an ASGI request, as a child of its caller's where that says so."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Send what has not been sent, for so many seconds at most; blocks."""
        ...


current: ContextVar[RequestTrace | None] = ContextVar("promptir_trace", default=None)
"""Set by the API for the task that answers a request and those it starts; None where nothing is traced."""


class stage:  # noqa: N801 - used as a function: `with stage("upload"):`
    """A block that becomes a child span of the current request, however it ends."""

    __slots__ = ("_began", "_name", "_trace")

    def __init__(self, name: str) -> None:
        self._name = name
        self._trace = current.get()

    def __enter__(self) -> None:
        if self._trace is not None:
            self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._trace is not None:
            self._trace.add(self._name, self._began, time.monotonic())
