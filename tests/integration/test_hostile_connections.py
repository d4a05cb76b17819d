"""Tests of hostile connections: broken, stalled, slow or endless HTTP on raw sockets."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from problems import assert_sound
from raw_http import connect, read_answer

STALL_S = 0.5
FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def strict(session_start: Any) -> Any:
    """Start a server with short timeouts."""
    return session_start(upload_stall_s=STALL_S, max_upload_bytes=2_000_000).until_ready()


MALFORMED_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"hello\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST /restore HTTP/9.9\r\n\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n: no name\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
    b"GET http:///// HTTP/1.1\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED_HTTP, ids=range(len(MALFORMED_HTTP)))
def test_what_is_no_http_is_answered_with_a_problem(data: bytes, server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(data)
        status, headers, document = read_answer(connection)
    assert 400 <= status < 500
    assert_sound(status, headers, document)


def test_a_body_shorter_than_it_says_ends_with_its_client(server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n\x89PNG")
    server.until(lambda: server.metric("promptir_upload_bytes") == 0)
    assert server.client.get("/readyz").status_code == 200


def test_a_request_that_wants_another_protocol_is_answered_in_this_one(server: Any, png: Any) -> None:
    for path in (b"/restore", b"/v2/models/promptir/infer", b"/v1/jobs"):
        for wanted in (b"websocket", b"h2c"):
            hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            head = b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: %b\r\n" % (path, wanted)
            with closing(connect(server.url)) as connection:
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(hidden))
                time.sleep(0.01)  # so that the head is parsed separately
                connection.sendall(hidden + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
                statuses = [read_answer(connection)[0] for _ in range(2)]
            assert statuses[0] >= 400
            assert statuses[1] == 404


def test_curl_uploads_though_it_would_rather_speak_http2(server: Any, png: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(64, 64))
    asking = ["curl", "-sS", "--http2", "-o", tmp_path / "restored", "-w", "%{http_code}"]
    for sending in (["--data-binary", "@photo.png"], ["-F", "file=@photo.png"]):
        finished = subprocess.run([*asking, *sending, f"{server.url}/restore"], cwd=tmp_path, capture_output=True)
        assert finished.stdout == b"200", finished


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 400_000,
        b"GET /" + b"y" * 400_000,
        b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"y" * 400_000,
        b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\xff\xd8\xff\r\n0\r\n"
        + b"X: y\r\n" * 70_000,
    ],
    ids=["headers", "value", "address", "chunk-extension", "trailers"],
)
def test_a_head_without_end_is_431(endless: bytes, server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(endless)
        status, headers, document = read_answer(connection)
    assert status == 431
    assert_sound(status, headers, document)


def test_an_upload_that_stalls_is_408_and_gives_its_room_back(strict: Any, png: Any) -> None:
    data = png(100, 100)
    for start in (
        b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:-50],
        b"Content-Type: image/png\r\nContent-Length: 1900000\r\n\r\n" + data[:-50],
        b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(data) - 50) + data[:-50],
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900000\r\n\r\n--x\r\n" + FILE + data[:-50],
        b"Content-Type: image/png\r\nContent-Length: 1000\r\n\r\n",
    ):
        with closing(connect(strict.url)) as connection:
            connection.sendall(b"POST /restore HTTP/1.1\r\nHost: x\r\n" + start)
            status, headers, document = read_answer(connection)
            assert (status, headers["connection"]) == (408, "close")
            assert_sound(status, headers, document)
            assert document["upload_stall_s"] == STALL_S
            assert strict.metric("promptir_upload_bytes") == 0


def test_an_upload_that_drips_is_408_though_it_never_pauses(strict: Any) -> None:
    with closing(connect(strict.url)) as connection:
        connection.sendall(
            b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n\xff\xd8\xff\xe1\xff\xff"
        )
        connection.settimeout(STALL_S / 20)
        for _ in range(400):
            connection.sendall(b"\0")
            try:
                assert connection.recv(12) == b"HTTP/1.1 408"
                return
            except TimeoutError:
                continue
    raise AssertionError("it was let drip")


@pytest.fixture
def two_on_one(server: Any) -> Iterator[socket.socket]:
    with closing(connect(server.url)) as connection:
        yield connection


def test_garbage_behind_a_request_does_not_reach_its_answer(two_on_one: socket.socket) -> None:
    two_on_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answer(two_on_one)[0] == 200
    two_on_one.sendall(b"\x00garbage\r\n\r\n")
    assert read_answer(two_on_one)[0] == 400
