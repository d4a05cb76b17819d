"""Tests of what connections receive into one buffer, on real sockets."""

import asyncio
import json
import random
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import conversation
import pytest
import uvloop
from conversation import until_closed

from server.http.protocol.connection import BoundedProtocol
from server.http.protocol.load_shedder import LoadShedder
from server.http.protocol.shedding import SheddingProtocol

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
HEAD = b"POST /%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n"


async def answer_early(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, has_more = b"", True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, has_more = body + message["body"], message["more_body"]
    size = int(scope["path"][1:] or len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": body, "more_body": size > len(body)})
    if size > len(body):
        await receive()  # until the client leaves


class Short(BoundedProtocol):
    """Finds no memory for what contains SHORT."""

    def _parse(self, data: bytes | memoryview) -> None:
        if b"SHORT" in bytes(data):
            raise MemoryError
        super()._parse(data)


@LOOPS
def test_bodies_of_several_connections_arrive_whole(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    rng = random.Random(0)
    bodies = [[rng.randbytes(rng.choice((0, 1, 70_000, 600_000))) for _ in range(12)] for _ in range(8)]

    async def send_all(address: tuple[str, int], mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for body in mine:
            writer.write(HEAD % (b"", len(body)))
            for at in range(0, len(body), 50_000):
                writer.write(body[at : at + 50_000])
                await asyncio.sleep(0)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(body)) == body
        writer.close()

    async def talk(client: socket.socket) -> None:
        address = client.getpeername()
        await asyncio.gather(*(send_all(address, mine) for mine in bodies))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(conversation.conversing(talk, echo, BoundedProtocol, 60.0))


@LOOPS
@pytest.mark.parametrize(
    "parts",
    [(HEAD % (b"SHORT", 5),), (HEAD % (b"", 9), b"SHORT"), (HEAD % (b"", 5) + b"first", HEAD % (b"", 9), b"SHORT")],
    ids=["head", "body", "second body"],
)
def test_what_finds_no_memory_is_answered(loop: Callable[[], asyncio.AbstractEventLoop], parts: list[bytes]) -> None:
    async def talk(client: socket.socket) -> bytes:
        return await until_closed(client, *parts)

    with asyncio.Runner(loop_factory=loop) as runner:
        seen, state = runner.run(conversation.conversing(talk, echo, Short, 60.0))
    *before, last = seen.split(b"HTTP/1.1 ")
    assert before[1:] == [b"200 OK\r\ncontent-length: 5\r\n\r\nfirst"] * (len(parts) - 2 if len(parts) > 2 else 0)
    head, _, body = last.partition(b"\r\n\r\n")
    assert head.startswith(b"503 ")
    assert b"connection: close" in head
    assert "no memory" in json.loads(body)["detail"]
    assert not state.connections


@LOOPS
def test_an_answer_that_has_begun_is_not_continued_by_another(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(client: socket.socket) -> bytes:
        return await until_closed(client, HEAD % (b"9", 5) + b"first", b"SHORT")

    with asyncio.Runner(loop_factory=loop) as runner:
        seen, state = runner.run(conversation.conversing(talk, echo, Short, 60.0))
    assert seen == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst"
    assert not state.connections


@LOOPS
def test_a_request_that_has_its_answer_gets_no_second_one(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(client: socket.socket) -> bytes:
        return await until_closed(client, HEAD % (b"", 9), b"SHORT")

    with asyncio.Runner(loop_factory=loop) as runner:
        seen, state = runner.run(conversation.conversing(talk, answer_early, Short, 60.0))
    assert seen == b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\n\r\n"
    assert not state.connections


@LOOPS
def test_a_shed_request_gets_no_second_answer(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    class Full(LoadShedder):
        def __init__(self) -> None:
            pass

        def refusal(self, headers: Any, upload_bytes: int) -> bytes:
            return b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"

    class ShortAndFull(SheddingProtocol, Short):
        pass

    async def talk(client: socket.socket) -> bytes:
        return await until_closed(client, HEAD % (b"restore", 9), b"SHORT")

    protocol = partial(ShortAndFull, shedder=Full())
    with asyncio.Runner(loop_factory=loop) as runner:
        seen, state = runner.run(conversation.conversing(talk, echo, protocol, 60.0))
    assert seen == b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
    assert not state.connections


@LOOPS
def test_pipelined_requests_that_find_no_memory_close_the_connection(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    requests = (HEAD % (b"", 0)) * 40 + HEAD % (b"SHORT", 0)

    async def talk(client: socket.socket) -> bytes:
        return await until_closed(client, requests)

    with asyncio.Runner(loop_factory=loop) as runner:
        seen, state = runner.run(conversation.conversing(talk, echo, Short, 60.0))
    assert 0 < seen.count(b"HTTP/1.1 200 OK") <= 40
    assert not state.connections
