"""Tests of traces with the SDK's in-memory exporter."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from server.tracing import current, stage
from server.tracing.open_telemetry import OpenTelemetry

CALLER = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
NS = 1_000_000_000


def scope(*headers: tuple[bytes, bytes], **more: object) -> dict[str, Any]:
    return {"method": "POST", "path": "/restore", "headers": list(headers), **more}


@pytest.fixture
def sent() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(sent: InMemorySpanExporter) -> Iterator[OpenTelemetry]:
    telemetry = OpenTelemetry("1.2", SimpleSpanProcessor(sent))
    telemetry.start()
    yield telemetry
    telemetry.stop(1.0)


def test_a_request_is_one_span_that_says_how_it_ended(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    trace = tracing.begin(scope(), "abc")
    trace.end(scope(), 200, "restored")
    (span,) = sent.get_finished_spans()
    assert span.name == "POST /restore"
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/restore",
        "promptir.request_id": "abc",
        "promptir.outcome": "restored",
        "http.response.status_code": 200,
    }
    assert span.resource.attributes["service.name"] == "promptir"
    assert span.resource.attributes["service.version"] == "1.2"
    assert span.context is not None
    assert trace.trace_id == f"{span.context.trace_id:032x}"
    assert trace.exemplar == {"trace_id": trace.trace_id}


def test_stages_are_children_with_the_times_they_are_given(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    trace = tracing.begin(scope(), "abc")
    now, wall_ns = time.monotonic(), time.time_ns()
    trace.add("decode", now - 2.0, now - 0.5)
    trace.end(scope(), 200, "restored")
    decode, request = sent.get_finished_spans()
    assert decode.parent == request.context
    assert decode.start_time is not None
    assert decode.end_time is not None
    assert decode.end_time - decode.start_time == pytest.approx(1.5 * NS, abs=1000)
    assert decode.start_time == pytest.approx(wall_ns - 2.0 * NS, abs=1.0 * NS)


def test_the_trace_of_the_caller_goes_on(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    trace = tracing.begin(scope(CALLER), "abc")
    trace.end(scope(), 200, "restored")
    (span,) = sent.get_finished_spans()
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


def test_a_trace_that_the_caller_does_not_sample_is_found_nowhere_but_in_the_logs(
    tracing: OpenTelemetry, sent: InMemorySpanExporter
) -> None:
    trace = tracing.begin(scope(UNSAMPLED), "abc")
    trace.add("decode", 0.0, 1.0)
    trace.end(scope(), 200, "restored")
    assert sent.get_finished_spans() == ()
    assert trace.exemplar is None
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "value", [b"nonsense", b"00-00000000000000000000000000000000-0000000000000000-01", b"\xff" * 9]
)
def test_a_caller_that_sends_nonsense_gets_a_trace_of_its_own(tracing: OpenTelemetry, value: bytes) -> None:
    trace = tracing.begin(scope((b"traceparent", value)), "abc")
    assert len(trace.trace_id) == 32
    assert int(trace.trace_id, 16) != 0


def test_probes_and_scrapes_leave_no_trace(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    tracing.begin(scope(), "abc").end(scope(), 200, None)
    assert sent.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        (503, "not-ready", StatusCode.ERROR),
        (None, "client-closed", StatusCode.ERROR),
        (429, "queue-full", StatusCode.UNSET),
    ],
)
def test_faults_of_the_server_are_errors_and_refusals_are_none(
    tracing: OpenTelemetry, sent: InMemorySpanExporter, status: int | None, outcome: str, code: StatusCode
) -> None:
    tracing.begin(scope(), "abc").end(scope(), status, outcome)
    (span,) = sent.get_finished_spans()
    assert span.status.status_code == code


def test_the_name_of_a_span_has_no_ids(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    class Route:
        path = "/v1/jobs/{job}"

    tracing.begin(scope(), "abc").end(scope(route=Route()), 404, "unknown-job")
    (span,) = sent.get_finished_spans()
    assert span.name == "POST /v1/jobs/{job}"


def test_the_standard_variables_say_what_the_service_is_called(
    monkeypatch: pytest.MonkeyPatch, sent: InMemorySpanExporter
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "photos")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    telemetry = OpenTelemetry("1.2", SimpleSpanProcessor(sent))
    telemetry.start()
    telemetry.begin(scope(), "abc").end(scope(), 200, "restored")
    (span,) = sent.get_finished_spans()
    assert span.resource.attributes["service.name"] == "photos"
    assert span.resource.attributes["deployment.environment"] == "test"


def test_a_collector_that_does_not_answer_holds_the_end_up_no_longer_than_asked() -> None:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class Silent(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            time.sleep(60)
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            """Hang."""

    telemetry = OpenTelemetry("1.2", BatchSpanProcessor(Silent()))
    telemetry.start()
    telemetry.begin(scope(), "abc").end(scope(), 200, "restored")
    began = time.monotonic()
    telemetry.stop(0.1)
    assert time.monotonic() - began < 20  # instead of the exporter's minute


def test_a_block_is_a_stage_of_the_current_request_however_it_ends(
    tracing: OpenTelemetry, sent: InMemorySpanExporter
) -> None:
    with stage("untraced"):
        pass
    token = current.set(tracing.begin(scope(), "abc"))
    try:
        with pytest.raises(ZeroDivisionError), stage("upload"):
            raise ZeroDivisionError
    finally:
        current.reset(token)
    names: list[ReadableSpan] = list(sent.get_finished_spans())
    assert [span.name for span in names] == ["upload"]


def test_a_key_in_the_path_is_not_sent(tracing: OpenTelemetry, sent: InMemorySpanExporter) -> None:
    key = "promptir_" + "k" * 43
    asked = scope() | {"path": f"/restore/{key}"}
    tracing.begin(asked, "abc").end(asked, 404, "not-found")
    (span,) = sent.get_finished_spans()
    assert span.name == "POST /restore/promptir_***"
    assert key not in span.to_json()
