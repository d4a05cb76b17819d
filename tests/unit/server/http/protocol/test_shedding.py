"""Tests of connections whose restorations are refused at their head, on real sockets."""

import asyncio
import socket
from collections.abc import Iterable
from functools import partial
from typing import Any

import conversation
import pytest
from conversation import Talk
from uvicorn.server import ServerState

from server.http.body.refusal import DROPPED_BYTES
from server.http.protocol.load_shedder import LoadShedder
from server.http.protocol.shedding import SheddingProtocol

REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull"
SERVED = b"\r\n\r\nserved"


class Full(LoadShedder):
    """Has no room for anybody."""

    def __init__(self) -> None:
        self.asked = 0

    def refusal(self, headers: Iterable[tuple[bytes, bytes]], upload_bytes: int) -> bytes:
        self.asked += 1
        return REFUSAL


async def application(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"served"})


def converse(talk: Talk, shedder: LoadShedder | None = None, patience_s: float = 60) -> tuple[Any, ServerState]:
    return conversation.converse(talk, application, partial(SheddingProtocol, shedder=shedder), patience_s)


def sends(*parts: bytes, until: bytes, count: int = 1) -> Talk:
    """Send part by part, and read until `until` has come so often."""

    async def talk(connection: socket.socket) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        for part in parts:
            await loop.sock_sendall(connection, part)
            await asyncio.sleep(0.01)
        while data.count(until) < count:
            received = await loop.sock_recv(connection, 1 << 16)
            assert received, f"closed after {data!r}"
            data += received
        return data

    return talk


def upload(body: bytes, head: bytes = b"POST /restore HTTP/1.1", *lines: bytes) -> bytes:
    return b"\r\n".join([head, b"Host: x", b"Content-Length: %d" % len(body), *lines, b"", body])


def test_a_restoration_is_refused_and_the_connection_serves_on() -> None:
    requests = (upload(b"image"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", upload(b"again"))
    seen, state = converse(sends(*requests[:2], until=b"served"), Full())
    assert seen.startswith(REFUSAL + b"HTTP/1.1 200 ")
    assert state.total_requests == 2
    assert not state.connections


def test_requests_that_come_together_are_refused_one_after_the_other() -> None:
    seen, state = converse(sends(3 * upload(b"image"), until=REFUSAL, count=3), Full())
    assert seen == 3 * REFUSAL
    assert state.total_requests == 3


def test_a_body_in_pieces_is_dropped() -> None:
    request = upload(bytes(50_000))
    pieces = [request[start : start + 9_000] for start in range(0, len(request), 9_000)]
    seen, _ = converse(sends(*pieces, upload(b"next"), until=REFUSAL, count=2), Full())
    assert seen == 2 * REFUSAL


@pytest.mark.parametrize(
    "request_",
    [
        upload(b"image", b"POST /restored HTTP/1.1"),
        upload(b"image", b"POST /v1/jobs HTTP/1.1"),
        upload(b"image", b"PUT /restore HTTP/1.1"),
        upload(b"image", b"POST /restore HTTP/1.0", b"Connection: keep-alive"),
        upload(b"image", b"POST /restore HTTP/1.1", b"Connection: close"),
        upload(b"image", b"POST /restore HTTP/1.1", b"Expect: 100-continue"),
        upload(bytes(DROPPED_BYTES + 1)),
        b"POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    ],
    ids=["path", "jobs", "method", "http-1.0", "close", "expect", "large", "chunked"],
)
def test_what_needs_more_than_a_refusal_is_left_to_the_route(request_: bytes) -> None:
    shedder = Full()
    seen, _ = converse(sends(request_, until=SERVED), shedder)
    assert b" 200 " in seen
    assert not shedder.asked


def test_a_query_does_not_hide_a_restoration() -> None:
    seen, _ = converse(sends(upload(b"image", b"POST /restore?format=jpeg HTTP/1.1"), until=REFUSAL), Full())
    assert seen == REFUSAL


def test_without_a_shedder_everything_is_served() -> None:
    seen, _ = converse(sends(upload(b"image"), until=SERVED))
    assert seen.startswith(b"HTTP/1.1 200 ")


def test_a_refused_client_that_never_sends_the_rest_is_let_go() -> None:
    async def talk(connection: socket.socket) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        await loop.sock_sendall(connection, upload(bytes(1000))[:-500])
        while part := await loop.sock_recv(connection, 1 << 16):
            data += part
        return data

    seen, state = converse(talk, Full(), patience_s=0.1)
    assert seen == REFUSAL
    assert not state.connections


def test_who_does_not_read_its_refusals_gets_no_more_of_them() -> None:
    shedder = Full()

    async def talk(connection: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        endless = 500_000 * upload(b"image")
        with pytest.raises(TimeoutError):  # the server stops reading, so that this side cannot send on
            await asyncio.wait_for(loop.sock_sendall(connection, endless), 2)
        return shedder.asked

    asked, _ = converse(talk, shedder)
    assert 0 < asked < 500_000
