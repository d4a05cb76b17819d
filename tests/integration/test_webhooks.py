"""Webhooks of jobs, through a real server to a real receiver that fails in many ways."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from problems import assert_problem

Image = Callable[..., bytes]
KEYS = [bytes(range(32)), bytes(range(32, 64))]
WAIT_S = 120.0
OUTCOMES = ("delivered", "retried", "given-up")


class Receiver:
    """Answers webhooks with the given statuses in turn, the last one from then on, and keeps what it received."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        receiver, left = self, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/hook?x=1"

    def until(self, count: int) -> None:
        give_up = time.monotonic() + WAIT_S
        while len(self.received) < count:
            assert time.monotonic() < give_up, "no webhook came"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    running: list[Receiver] = []

    def start(*statuses: int, **named: Any) -> Receiver:
        running.append(Receiver(*statuses, **named))
        return running[-1]

    yield start
    for each in running:
        each.close()


@pytest.fixture
def hooked(start: Any, tmp_path: Path) -> Callable[..., Any]:
    """Start a server that may send webhooks to these hosts."""
    secrets = tmp_path / "secrets"
    secrets.write_text("".join(f"whsec_{base64.b64encode(key).decode()}\n" for key in KEYS))

    def run(*hosts: object, **settings: Any) -> Any:
        allowed = ",".join(map(str, hosts))
        given = {"webhook_hosts": allowed, "webhook_secret_file": secrets, "jobs_folder": tmp_path / "jobs"}
        return start(**given, **settings).until_ready()

    return run


def check_signature(headers: dict[str, str], body: bytes) -> None:
    """As the Standard Webhooks specification describes it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = [f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in KEYS]
    assert headers["webhook-signature"].split() == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_the_end_of_a_job_is_told_with_a_signature_and_retried_until_it_is_taken(
    hooked: Any, receiver: Any, png: Image
) -> None:
    taking = receiver(500, 302, 204, headers={"Location": "http://127.0.0.1:1/elsewhere"})
    server = hooked(f"127.0.0.1:{taking.port}")
    path = server.client.post("/v1/jobs", params={"webhook": taking.url()}, content=png(8, 8)).headers["location"]
    taking.until(3)
    for target, headers, body in taking.received:
        assert (target, headers["host"]) == ("/hook?x=1", f"127.0.0.1:{taking.port}")
        check_signature(headers, body)
    assert len({headers["webhook-id"] for _, headers, _ in taking.received}) == 1
    message = json.loads(taking.received[-1][2])
    assert message["type"] == "job.done"
    assert message["data"] == server.client.get(path).json()
    time.sleep(2.5)
    assert len(taking.received) == 3, "what was taken was sent again"
    counted = {name: server.metric(f'promptir_webhooks_total{{outcome="{name}"}}') for name in OUTCOMES}
    assert counted == {"retried": 2, "delivered": 1, "given-up": 0}


def test_a_batch_is_told_once_when_its_last_photo_ends(hooked: Any, receiver: Any, png: Image) -> None:
    taking = receiver(200)
    server = hooked(f"127.0.0.1:{taking.port}")
    photos = [("image", (f"{n}.png", png(8, 8 + n))) for n in range(3)]
    path = server.client.post("/v1/jobs", params={"webhook": taking.url()}, files=photos).headers["location"]
    taking.until(1)
    message = json.loads(taking.received[0][2])
    assert (message["type"], message["data"]["counts"], message["data"]["photos"]) == ("job.done", {"done": 3}, None)
    assert message["data"]["links"]["self"] == path
    time.sleep(2.5)
    assert len(taking.received) == 1


def test_failures_and_cancellations_are_told_too(hooked: Any, receiver: Any, png: Image, tmp_path: Path) -> None:
    taking = receiver(200)
    server = hooked(f"127.0.0.1:{taking.port}", gate=tmp_path / "gate")
    query = {"webhook": taking.url()}
    whole = png(64, 64)
    damaged = whole[:1000] + bytes(500) + whole[1500:]
    assert server.client.post("/v1/jobs", params=query, content=damaged).status_code == 202
    with server.holding():
        path = server.client.post("/v1/jobs", params=query, content=png(8, 8)).headers["location"]
        assert server.client.delete(path).status_code == 204
    taking.until(2)
    assert {json.loads(body)["type"] for _, _, body in taking.received} == {"job.failed", "job.cancelled"}


def test_a_host_that_wants_no_more_is_counted_as_given_up(hooked: Any, receiver: Any, png: Image) -> None:
    refusing = receiver(410)
    server = hooked(f"127.0.0.1:{refusing.port}")
    assert server.client.post("/v1/jobs", params={"webhook": refusing.url()}, content=png(8, 8)).status_code == 202
    server.until(lambda: server.metric('promptir_webhooks_total{outcome="given-up"}') == 1)
    assert len(refusing.received) == 1


def test_a_message_outlives_a_kill_of_the_server(hooked: Any, receiver: Any, png: Image) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = hooked(f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/"
    path = server.client.post("/v1/jobs", params={"webhook": url}, content=png(8, 8)).headers["location"]
    server.until(lambda: any(line["message"] == "a webhook was not delivered" for line in server.lines))
    server.stop()
    with closing(socket.create_server(("127.0.0.1", port))) as listening:
        again = hooked(f"127.0.0.1:{port}")
        listening.settimeout(WAIT_S)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(WAIT_S)
            request = b""
            while b"\r\n\r\n" not in request or path.encode() not in request:
                request += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        again.until(lambda: any(line["message"] == "webhook delivered" for line in again.lines))


def test_a_receiver_that_never_answers_holds_up_nothing_and_is_given_up(hooked: Any, receiver: Any, png: Image) -> None:
    """One sends a byte a second for ever: the answer has a bound in time, and jobs and other webhooks continue."""
    taking = receiver(200)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        server = hooked(f"127.0.0.1:{port}", f"127.0.0.1:{taking.port}")

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    while True:
                        connection.sendall(b"H")
                        time.sleep(0.5)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        slow = {"webhook": f"http://127.0.0.1:{port}/"}
        assert server.client.post("/v1/jobs", params=slow, content=png(8, 8)).status_code == 202
        time.sleep(1.5)
        query = {"webhook": taking.url()}
        assert server.client.post("/v1/jobs", params=query, content=png(8, 9)).status_code == 202
        server.until(lambda: any(line["message"] == "a webhook was not delivered" for line in server.lines))
        taking.until(1)
    server.terminate()
    assert server.wait() == 0


def test_only_listed_hosts_are_taken_and_a_server_without_a_list_sends_nothing(
    hooked: Any, start: Any, receiver: Any, png: Image, tmp_path: Path
) -> None:
    taking = receiver(200)
    server = hooked("hooks.example", f"localhost:{taking.port}")
    for url in ("https://evil.example/", taking.url(), "http://169.254.169.254/latest", "nonsense", ""):
        response = server.client.post("/v1/jobs", params={"webhook": url}, content=png(8, 8))
        assert_problem(response, 400, "invalid-request")
        assert "webhook" in response.json()["detail"]
    assert "its URL is empty" in response.json()["detail"]
    twice = server.client.post("/v1/jobs?webhook=a&webhook=b", content=png(8, 8))
    assert_problem(twice, 400, "invalid-request")
    odd = server.client.post("/v1/jobs?webhook=https://hooks.example/&format=%E2%98%80", content=png(8, 8))
    assert_problem(odd, 400, "invalid-request")
    assert_problem(
        server.client.post("/restore?webhook=https://hooks.example/", content=png(8, 8)), 400, "invalid-request"
    )
    # A listed name with an internal address is taken, and not connected to.
    query = {"webhook": taking.url("localhost")}
    assert server.client.post("/v1/jobs", params=query, content=png(8, 8)).status_code == 202
    server.until(lambda: any("internal" in line.get("reason", "") for line in server.lines))
    assert taking.received == []
    plain = start(jobs_folder=tmp_path / "other").until_ready()
    refused = plain.client.post("/v1/jobs", params=query, content=png(8, 8))
    assert_problem(refused, 400, "invalid-request")
    assert "PROMPTIR_WEBHOOK_HOSTS" in refused.json()["detail"]


def test_a_secret_that_could_not_sign_stops_the_start(command: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_short")
    settings = {"webhook_hosts": "hooks.example", "webhook_secret_file": tmp_path / "secret"}
    finished = command("serve", backend="simulated", jobs_folder=tmp_path / "jobs", **settings)
    assert finished.returncode == 1
    assert "PROMPTIR_WEBHOOK_SECRET_FILE: a secret is whsec_" in finished.stderr
