"""Trace of the current request, available to all code that handles it."""

import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol


class RequestTrace(Protocol):
    """Span of a request; times are seconds of `time.monotonic`."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; the caller's trace id if it sent a `traceparent`."""
        ...

    @property
    def exemplar(self) -> dict[str, str] | None:
        """Exemplar that links a metric to this trace; None if the trace is not sampled."""
        ...

    def add(self, name: str, began: float, ended: float) -> None:
        """Add a finished child span."""
        ...

    def end(self, scope: MutableMapping[str, Any], status: int | None, outcome: str | None) -> None:
        """End the span; requests without an outcome (probes, scrapes) leave no trace."""
        ...


class Tracing(Protocol):
    """Destination of traces."""

    def start(self) -> None:
        """Start sending finished spans."""
        ...

    def begin(self, scope: MutableMapping[str, Any], request_id: str) -> RequestTrace:
        """Start the trace of an ASGI request, as a child of the caller's trace if it sent one."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Send the remaining spans, waiting at most `timeout_s` seconds; blocks."""
        ...


current: ContextVar[RequestTrace | None] = ContextVar("promptir_trace", default=None)
"""Set by the API for the task that handles a request and the tasks it starts; None if requests are not traced."""


class stage:  # noqa: N801 - used as a function: `with stage("upload"):`
    """Records a `with` block as a child span of the current request, even if the block raises."""

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
