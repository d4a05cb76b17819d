"""Tracing with the OpenTelemetry SDK, which reads the standard `OTEL_*` variables."""

import threading
import time
from collections.abc import Iterable, MutableMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.logs import shortened

SERVICE = "promptir"
_PROPAGATED = (b"traceparent", b"tracestate")
_PROPAGATOR = TraceContextTextMapPropagator()


class OpenTelemetry:
    """Tracing that sends spans to a collector by OTLP over HTTP, or to a given processor."""

    def __init__(self, version: str, processor: SpanProcessor | None = None) -> None:
        self._version = version
        self._processor = processor
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = trace.NoOpTracer()

    def start(self) -> None:
        """Set up the SDK; sampler, resource, batching and collector come from the `OTEL_*` variables."""
        own = Resource.create({"service.name": SERVICE, "service.version": self._version})
        # Merged in this order, the variables override these values; `create` alone would do the reverse.
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE, self._version)

    def begin(self, scope: MutableMapping[str, Any], request_id: str) -> "SpanTrace":
        """Start the span of a request; an invalid `traceparent` starts a new trace."""
        parent = _PROPAGATOR.extract(_propagated(scope["headers"]))
        attributes = {
            "http.request.method": scope["method"],
            "url.path": shortened(scope["path"]),
            "promptir.request_id": request_id,
        }
        span = self._tracer.start_span(
            f"{scope['method']} {shortened(scope['path'])}", context=parent, kind=SpanKind.SERVER, attributes=attributes
        )
        return SpanTrace(self._tracer, span)

    def stop(self, timeout_s: float) -> None:
        """Send the remaining spans, waiting at most `timeout_s` seconds for the collector."""
        if self._provider is None:
            return
        # The SDK would wait up to half a minute; this daemon thread ends with the process.
        sending = threading.Thread(target=self._provider.shutdown, name="promptir-traces", daemon=True)
        sending.start()
        sending.join(timeout_s)


class SpanTrace:
    """RequestTrace backed by an OpenTelemetry span."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        context = span.get_span_context()
        self.trace_id = trace.format_trace_id(context.trace_id)
        self.exemplar: dict[str, str] | None = {"trace_id": self.trace_id} if context.trace_flags.sampled else None

    def add(self, name: str, began: float, ended: float) -> None:
        """Add a child span from `began` to `ended`, in seconds of time.monotonic."""
        span = self._tracer.start_span(name, context=self._context, start_time=self._ns(began))
        span.end(self._ns(ended))

    def end(self, scope: MutableMapping[str, Any], status: int | None, outcome: str | None) -> None:
        """End the span; a span without an outcome is never sent."""
        if outcome is None:
            return
        if (route := getattr(scope.get("route"), "path", None)) is not None:
            self._span.update_name(f"{scope['method']} {route}")  # without the ids in the path
        self._span.set_attribute("promptir.outcome", outcome)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            self._span.set_status(Status(StatusCode.ERROR, outcome))
        self._span.end()

    def _ns(self, seconds: float) -> int:
        return self._epoch_ns + int(seconds * 1e9)


def _propagated(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in _PROPAGATED}
