"""Tests of the container's health check, against real servers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType

import pytest

Script = Callable[[str], ModuleType]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Run a server that answers everything with the status; returns its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_it_is_healthy_only_while_the_server_is_ready(
    status: int, code: int, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(status) as port:
        monkeypatch.setenv("PROMPTIR_PORT", str(port))
        assert script("healthcheck").main() == code


def test_no_answer_is_one_sentence(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: no response, and no other process takes the port
        monkeypatch.setenv("PROMPTIR_PORT", str(closed.getsockname()[1]))
        assert script("healthcheck").main() == 1
    assert capsys.readouterr().out.startswith("no response on port")
