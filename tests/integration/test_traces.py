"""Tests of a real server's traces at a collector, and of the exemplars and log lines that refer to them."""

import itertools
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

Image = Callable[..., bytes]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
STAGES = ["upload", "decode", "queue", "inference", "encode"]
WAIT_S = 30.0
# Time for unsent spans at shutdown, and for a slow machine.
SENDING_S = 3.0
SOON_S = 5.0


class Collector(ThreadingHTTPServer):
    """OTLP/HTTP receiver that records spans and the resource attributes of their senders."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in body.resource_spans:
            told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            self.server.services.add(told["service.name"])
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """The test says what it needs to."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver
        receiver.shutdown()


@pytest.fixture
def traced(start: Any, collector: Collector) -> Any:
    return start(tracing=True).until_ready()


def spans_by_name(collector: Collector, trace_id: str) -> dict[str, Any]:
    return {span.name: span for span in collector.spans if span.trace_id.hex() == trace_id}


def test_a_collector_gets_a_restoration_as_one_trace(traced: Any, collector: Collector, png: Image) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = traced.client.post("/restore", content=png(48, 40), headers=parent)
    assert answer.status_code == 200
    traced.terminate()
    assert traced.wait() == 0  # unsent spans are sent at the end
    spans = spans_by_name(collector, TRACE)
    assert sorted(spans) == sorted(["POST /restore", *STAGES])
    request = spans["POST /restore"]
    assert request.parent_span_id.hex() == PARENT
    assert collector.services == {"promptir"}
    children = [spans[name] for name in STAGES]
    assert {child.parent_span_id for child in children} == {request.span_id}
    for before, after in itertools.pairwise(children):
        assert before.start_time_unix_nano <= before.end_time_unix_nano <= after.start_time_unix_nano
    assert request.start_time_unix_nano <= children[0].start_time_unix_nano
    assert children[-1].end_time_unix_nano <= request.end_time_unix_nano


def test_the_log_line_names_the_trace(traced: Any, png: Image) -> None:
    answer = traced.client.post(
        "/restore", content=png(48, 40, seed=1), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}
    )
    traced.until(lambda: any(line.get("request_id") == answer.headers["X-Request-ID"] for line in traced.lines))
    (line,) = (line for line in traced.lines if line.get("request_id") == answer.headers["X-Request-ID"])
    assert line["trace_id"] == TRACE


def test_the_histograms_of_the_stages_lead_to_the_trace_where_openmetrics_is_asked_for(traced: Any, png: Image) -> None:
    traced.client.post("/restore", content=png(48, 40, seed=2), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    page = traced.client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert page.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(page.text)}
    samples = families["promptir_stage_duration_seconds"].samples
    exemplars = {sample.labels["stage"]: sample.exemplar for sample in samples if sample.exemplar is not None}
    assert set(exemplars) == {"decode", "queue", "inference", "encode", "total"}
    assert {exemplar.labels["trace_id"] for exemplar in exemplars.values()} == {TRACE}
    plain = traced.client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert TRACE not in plain.text


def test_a_request_that_fails_is_traced_up_to_where_it_did(traced: Any, collector: Collector) -> None:
    answer = traced.client.post("/restore", content=b"no image", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert answer.status_code == 415
    traced.client.get("/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    traced.terminate()
    assert traced.wait() == 0
    spans = spans_by_name(collector, TRACE)
    assert sorted(spans) == ["POST /restore", "upload"]
    told = {pair.key: pair.value for pair in spans["POST /restore"].attributes}
    assert told["promptir.outcome"].string_value == "unsupported-image"
    assert told["http.response.status_code"].int_value == 415


def test_a_server_without_a_collector_serves_and_ends_all_the_same(
    start: Any, monkeypatch: pytest.MonkeyPatch, png: Image
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    server = start(tracing=True).until_ready()
    assert server.client.post("/restore", content=png(48, 40, seed=3)).status_code == 200
    server.terminate()
    assert server.wait() == 0


@contextmanager
def deaf_collector(answer: bytes, every_s: float) -> Iterator[str]:
    """Start a collector that accepts everything and responds so slowly, byte by byte, that it never ends."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=feed, args=(listener.accept()[0],), daemon=True).start()

    def feed(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for byte in itertools.cycle(answer) if answer else ():
                connection.sendall(bytes([byte]))
                if ended.wait(every_s):
                    return
            ended.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]
)
def test_a_collector_that_is_slow_or_says_nothing_does_not_hold_up_the_end(
    start: Any, monkeypatch: pytest.MonkeyPatch, png: Image, answer: bytes
) -> None:
    with deaf_collector(answer, every_s=0.2) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # so that a span is being sent at the shutdown
        server = start(tracing=True).until_ready()
        assert server.client.post("/restore", content=png(48, 40, seed=3)).status_code == 200
        time.sleep(0.3)
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - began < SENDING_S + SOON_S


def test_a_server_that_traces_nothing_does_not_load_the_sdk(server: Any, png: Image) -> None:
    assert server.client.post("/restore", content=png(48, 40, seed=4)).status_code == 200
    page = server.client.get("/metrics", headers={"Accept": OPENMETRICS}).text
    assert not re.search(r"# \{trace_id=", page)
    code = (
        "import sys; from server.app import create_app; from server.settings import Settings; create_app(Settings())\n"
        "sys.exit('opentelemetry.sdk' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], timeout=WAIT_S, check=False)
    assert loaded.returncode == 0


def test_the_missing_extra_is_said_in_a_sentence() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from server.cli import main; sys.exit(main(['serve', '--tracing', 'true', '--port', '0']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "promptir: PROMPTIR_TRACING=true: opentelemetry.exporter.otlp is not installed; "
        "install this package with the extra `tracing`\n"
    )
