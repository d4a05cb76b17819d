"""Misbehaving connections of the chaos test, written byte by byte."""

import asyncio
import socket
import struct
import time
from collections import Counter

import cv2
import numpy as np
from chaos_clients import has_pixels

ATTACKERS = 12
DRIP_S = 0.05
MOMENT_S = 0.02
ANSWER_S = 10.0
LONG_BODY = 100_000
NO_ANSWER = "closed without a response"
HEAD = b"POST /restore HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


async def attack(port: int, kinds: tuple[str, ...], seconds: float, body: bytes = b"") -> Counter[str]:
    """Open connections of the given kinds for `seconds` and count their outcomes; `wrong`: 200 with wrong pixels."""
    until, ends = time.monotonic() + seconds, Counter[str]()
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            for _ in range(ATTACKERS):
                group.create_task(_repeat(port, kind, until, body, ends))
    return ends


async def _repeat(port: int, kind: str, until: float, body: bytes, ends: Counter[str]) -> None:
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0) + ANSWER_S):
                ends[f"{kind}: {await _one(kind, reader, writer, until, body, ends)}"] += 1
        except ConnectionError:
            ends[f"{kind}: {NO_ANSWER}"] += 1
        finally:
            writer.transport.abort()


async def _one(
    kind: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    until: float,
    body: bytes,
    ends: Counter[str],
) -> str:
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    match kind:
        case "slow head":
            return await _drip(reader, writer, HEAD + b"X-Slow: ", until)
        case "slow body":
            start = HEAD + b"Content-Length: %d\r\n\r\n\xff\xd8\xff\xe1\xff\xff" % LONG_BODY
            return await _drip(reader, writer, start, until)
        case "half-closed whole" | "half-closed early":
            writer.write(whole if kind.endswith("whole") else whole[: -len(body) // 2])
            writer.write_eof()
            status, data = _answer(await reader.read())
            ends["wrong"] += int(status == "200" and not _matches(data, body))
            return status
        case _:  # reset during the upload, or before reading the response
            writer.write(whole[: -len(body) // 2] if kind == "reset" else whole)
            await asyncio.sleep(MOMENT_S)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return "gone"


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes, until: float) -> str:
    writer.write(start)
    answer = asyncio.ensure_future(reader.read(LONG_BODY))  # the server may respond long before it closes
    while time.monotonic() < until and not answer.done():
        writer.write(b"0")
        await asyncio.wait({answer}, timeout=DRIP_S)
    if answer.done():
        return _answer(answer.result())[0]
    answer.cancel()
    return "kept open to the end"


def _answer(data: bytes) -> tuple[str, bytes]:
    head, found, body = data.partition(b"\r\n\r\n")
    return (head[9:12].decode(), body) if found else (NO_ANSWER, b"")


def _matches(data: bytes, upload: bytes) -> bool:
    return has_pixels(data, np.asarray(cv2.imdecode(np.frombuffer(upload, np.uint8), cv2.IMREAD_UNCHANGED)))
