"""Tests of answers that leave in one write, and of connections that are held to their bounds."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import conversation
import pytest
import uvloop
from conversation import Talk, until_closed

from server.http.protocol import connection
from server.http.protocol.connection import BoundedProtocol, _Joining

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


class Wire:
    """A transport that remembers its writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: Any) -> None:
        self.writes.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> str | None:
        return name if name == "peername" else None


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def play(*writes: bytes, close: bool = False, later: tuple[bytes, ...] = ()) -> Wire:
    async def run() -> Wire:
        wire: Any = Wire()
        joining = _Joining(wire, asyncio.get_running_loop())
        for data in writes:
            joining.write(data)
        if close:
            joining.close()
        await asyncio.sleep(0)
        for data in later:
            joining.write(data)
        await asyncio.sleep(0)
        assert joining.get_extra_info("peername") == "peername"
        return wire

    return asyncio.run(run())


def test_head_and_body_leave_together_and_what_follows_by_itself() -> None:
    assert play(HEAD, b"body", b"more").writes == [HEAD + b"body", b"more"]


def test_a_head_whose_body_is_not_there_yet_leaves_in_the_next_turn() -> None:
    assert play(HEAD, later=(b"body",)).writes == [HEAD, b"body"]


def test_two_answers_are_not_mixed() -> None:
    assert play(HEAD, b"one", HEAD, b"two").writes == [HEAD + b"one", HEAD + b"two"]


def test_an_interim_answer_is_never_held_back() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert play(interim, HEAD, b"body").writes == [interim, HEAD + b"body"]


def test_closing_sends_what_is_held() -> None:
    wire = play(HEAD, close=True)
    assert wire.writes == [HEAD]
    assert wire.closed


@LOOPS
def test_large_answers_arrive_whole_and_in_order(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    rng = random.Random(0)
    bodies = [rng.randbytes(size) for size in (connection.LARGE_BYTES, 10, 12 * 2**20, 300_000, 0, 70_000)]

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            joining = _Joining(cast(asyncio.Transport, transport), asyncio.get_running_loop())
            for body in bodies:
                joining.write(HEAD)
                joining.write(body)
            joining.close()

    async def scene() -> bytes:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        received = b""
        while piece := await reader.read(100_000):
            received += piece
            await asyncio.sleep(0)
        writer.close()
        server.close()
        return received

    with asyncio.Runner(loop_factory=loop) as runner:
        received = runner.run(scene())
    assert received == b"".join(HEAD + body for body in bodies)


def test_a_large_answer_to_a_client_that_has_left_raises_nothing() -> None:
    async def scene() -> None:
        lost = asyncio.Event()

        class Answering(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.joining = _Joining(cast(asyncio.Transport, transport), asyncio.get_running_loop())

            def data_received(self, data: bytes) -> None:
                for _ in range(3):
                    self.joining.write(HEAD)
                    self.joining.write(bytes(8 * 2**20))

            def connection_lost(self, exc: Exception | None) -> None:
                lost.set()

        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.sendall(b"go")
        client.close()
        await asyncio.wait_for(lost.wait(), 10)
        server.close()

    asyncio.run(scene())


LONG = bytes(32 * 2**20)  # more than all buffers on the way
WELL_FORMED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    body = LONG if scope["path"] == "/long" else b"yes"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def converse(talk: Talk, patience_s: float, protocol: type[BoundedProtocol] = BoundedProtocol) -> tuple[Any, int]:
    """What a client sees, and how many connections are left open behind it."""
    seen, state = conversation.converse(talk, application, protocol, patience_s)
    return seen, len(state.connections)


def problem(data: bytes) -> dict[str, Any]:
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert {b"connection: close", b"x-content-type-options: nosniff", b"cache-control: private"} <= set(
        head.split(b"\r\n")
    )
    document: dict[str, Any] = json.loads(body)
    assert set(document) == {"type", "title", "status", "detail", "instance"}
    return document


def test_half_a_head_is_408_in_the_end() -> None:
    async def talk(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, WELL_FORMED[:-10])
        return await until_closed(connection)

    seen, _ = converse(talk, patience_s=0.05)
    assert problem(seen)["status"] == 408


def test_a_second_head_has_the_same_bound() -> None:
    async def talk(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, WELL_FORMED + WELL_FORMED[:-10])
        return await until_closed(connection)

    seen, _ = converse(talk, patience_s=0.05)
    first, _, rest = seen.partition(b"yes")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert problem(rest)["status"] == 408


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    assert converse(until_closed, patience_s=0.05)[0] == b""


def test_a_head_without_end_is_431() -> None:
    async def talk(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, WELL_FORMED[:-2] + b"A: b\r\n" * 20_000)
        return await until_closed(connection)

    assert problem(converse(talk, patience_s=60)[0])["status"] == 431


@pytest.mark.parametrize(
    ("data", "status", "named"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400, "not plain HTTP"),
        (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "unknown method"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Duplicate Content-Length"),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400, "is not valid HTTP/1.1"),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400, "URL of the request is not valid"),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", 400, "no proxy"),
        (b"GET /" + b"a" * 65_535 + b" HTTP/1.1\r\n\r\n", 414, "65535 bytes"),
    ],
    ids=["tls", "method", "lengths", "line", "url", "connect", "long"],
)
def test_a_request_that_cannot_be_read_is_told_why(data: bytes, status: int, named: str) -> None:
    async def talk(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, data)
        return await until_closed(connection)

    told = problem(converse(talk, patience_s=60)[0])
    assert told["status"] == status
    assert named in told["detail"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, is_last = b"", False
    while not is_last:
        message = await receive()
        body, is_last = body + message["body"], not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@LOOPS
def test_thousands_of_requests_at_once_are_answered_in_order_and_few_wait(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    waiting = []

    class Watched(BoundedProtocol):
        def _parse(self, data: bytes) -> None:
            super()._parse(data)
            waiting.append(len(self.pipeline))

    bodies = [b"%d\r\n\r\n" % number * (number % 7) for number in range(5000)]  # that look like ends of heads
    bodies[2500] = b"\r\n\r\n" * 100_000

    async def talk(client: socket.socket) -> bytes:
        running = asyncio.get_running_loop()
        requests = b"".join(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in bodies)
        sending = asyncio.ensure_future(running.sock_sendall(client, requests))
        expected = sum(map(len, bodies)) + sum(
            len(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)) for body in bodies
        )
        seen = bytearray()
        while len(seen) < expected:
            seen += await running.sock_recv(client, 1 << 20)
        await sending
        return bytes(seen)

    with asyncio.Runner(loop_factory=loop) as runner:
        seen, _ = runner.run(conversation.conversing(talk, echo, Watched, 60.0))
    for body in bodies:
        head, _, seen = seen.partition(b"\r\n\r\n")
        assert (head[:15], seen[: len(body)]) == (b"HTTP/1.1 200 OK", body)
        seen = seen[len(body) :]
    assert max(waiting) < connection.MAX_PIPELINED + connection.PIECE_BYTES / len(b"GET / HTTP/1.1\r\n\r\n")


def test_a_long_body_is_parsed_at_once_and_the_request_behind_it_is_answered() -> None:
    parsed = []

    class Watched(BoundedProtocol):
        def _parse(self, data: bytes) -> None:
            parsed.append(len(data))
            super()._parse(data)

    head, body = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n", b"\r\n\r\n" * (connection.LONG_BYTES // 2)
    whole = head % len(body) + body + head % 2 + b"ok"

    async def talk(client: socket.socket) -> bytes:
        running, seen = asyncio.get_running_loop(), bytearray()
        sending = asyncio.ensure_future(running.sock_sendall(client, whole))
        while not seen.endswith(b"\r\n\r\nok"):
            seen += await running.sock_recv(client, 1 << 20)
        await sending
        return bytes(seen)

    seen, _ = conversation.converse(talk, echo, Watched, 60.0)
    assert seen.count(b"HTTP/1.1 200 OK") == 2
    assert sum(parsed) == len(whole)
    assert len(parsed) < len(whole) / connection.PIECE_BYTES / 2


def test_requests_behind_one_that_takes_long_wait_unparsed() -> None:
    waiting = []

    class Watched(BoundedProtocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waiting.append(len(self.pipeline))

    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    async def talk(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await asyncio.get_running_loop().sock_sendall(client, WELL_FORMED * 2000)
        await asyncio.sleep(0.1)

    conversation.converse(talk, never, Watched, 60.0)
    assert connection.MAX_PIPELINED <= max(waiting) < 100


def test_an_answer_that_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_S", 0.05)
    lost = asyncio.Event()

    class Watched(BoundedProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async def talk(connection: socket.socket) -> bool:
        await asyncio.get_running_loop().sock_sendall(connection, WELL_FORMED.replace(b"/ ", b"/long "))
        return await asyncio.wait_for(lost.wait(), 20)

    assert converse(talk, patience_s=60, protocol=Watched) == (True, 0)


def test_an_answer_that_is_read_slowly_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_S", 0.2)
    step_s = connection.UNREAD_S / 800  # so that some megabytes are read between two looks

    async def talk(connection: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now  # type: ignore[method-assign]  # a busy machine makes nobody read more slowly
        await loop.sock_sendall(connection, WELL_FORMED.replace(b"/ ", b"/long "))
        count = 0
        while count <= len(LONG) and (received := await loop.sock_recv(connection, 2**14)):
            count += len(received)
            now += step_s
            await asyncio.sleep(0)
        return count

    assert converse(talk, patience_s=60)[0] > len(LONG)
