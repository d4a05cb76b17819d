"""The traces: what a request did when, as one span with a child for each stage; off, they cost one look-up."""

from server.tracing.request_trace import RequestTrace, Tracing, current, stage

__all__ = ["RequestTrace", "Tracing", "current", "stage"]
