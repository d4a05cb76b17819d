"""Tests of requests that ask for another protocol: each is answered in this one, and its body is its body."""

import json
import socket
from typing import Any

import conversation
import pytest
from conversation import until_closed

from server.http.protocol.connection import BoundedProtocol

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
ASKING = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "several": b"upgrade: TLS/1.0, foo\r\nconnection: keep-alive, upgrade\r\n",
    "twice": b"Connection: Upgrade\r\nUpgrade: h2c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    "named only": b"Upgrade: h2c\r\n",
    "connection only": b"Connection: Upgrade\r\n",
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a line that says what came."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = sorted({name.decode() for name, _ in scope["headers"]} & {"upgrade", "http2-settings"})
    content = json.dumps([scope["path"], body.decode(), names]).encode() + b"\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


def answered(*parts: bytes) -> list[Any]:
    """What the application saw of the requests, and the status of each refusal."""

    async def talk(connection: socket.socket) -> bytes:
        return await until_closed(connection, *parts)

    seen, _ = conversation.converse(talk, application, BoundedProtocol, patience_s=60)
    lines = [line for line in seen.decode().splitlines() if line.startswith(("[", "{"))]
    return [json.loads(line) for line in lines]


def upload(asking: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    head = b"POST /first HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (version, asking, len(body))
    return head + body


@pytest.mark.parametrize("asking", ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("cut", [0, 1, len(HIDDEN)], ids=["whole", "within", "after the head"])
def test_the_body_of_an_upgrade_is_no_request(asking: bytes, cut: int) -> None:
    request = upload(asking, HIDDEN)
    cut = len(request) - cut
    first, after = answered(request[:cut], request[cut:], NEXT)
    assert first[:2] == ["/first", HIDDEN.decode()]
    assert after == ["/next", "", []]
    assert first[2] == (["upgrade"] if asking == ASKING["named only"] else [])


def test_an_upgrade_may_come_byte_by_byte() -> None:
    data = upload(ASKING["h2c"], HIDDEN) + NEXT
    assert answered(*(data[at : at + 1] for at in range(len(data)))) == [
        ["/first", HIDDEN.decode(), []],
        ["/next", "", []],
    ]


def test_the_chunks_of_an_upgrade_are_its_body() -> None:
    chunked = b"POST /first HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n" % ASKING["h2c"]
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    assert answered(chunked + NEXT) == [["/first", HIDDEN.decode(), []], ["/next", "", []]]


def test_many_upgrades_in_one_piece_are_answered_in_turn() -> None:
    count = 2000
    request = b"GET /first HTTP/1.1\r\nHost: x\r\n" + ASKING["websocket"] + b"\r\n"
    assert answered(count * request + NEXT) == count * [["/first", "", []]] + [["/next", "", []]]


@pytest.mark.parametrize(
    "request_",
    [
        upload(b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n", HIDDEN),
        upload(ASKING["h2c"], HIDDEN, b"1.0"),
    ],
    ids=["close", "http-1.0"],
)
def test_an_upgrade_that_closes_the_connection_is_the_last_request(request_: bytes) -> None:
    assert answered(request_ + NEXT) == [["/first", HIDDEN.decode(), []]]


@pytest.mark.parametrize(
    "start",
    [
        b"CONNECT /first HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT /first HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /first HTTP/1.1\r\nHost: x\r\n%bContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" % ASKING["h2c"],
        b"POST /first HTTP/1.1\r\nHost: x\r\n%bContent-Length: 4\r\nContent-Length: 5\r\n\r\n" % ASKING["h2c"],
    ],
    ids=["connect", "tunnel", "connect and upgrade", "http2", "both lengths", "two lengths"],
)
def test_what_would_not_go_on_in_this_protocol_is_refused_and_nothing_behind_it_is_read(start: bytes) -> None:
    (refusal,) = answered(start + NEXT)
    assert refusal["status"] == 400
