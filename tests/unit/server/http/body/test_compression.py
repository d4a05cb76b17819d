"""Tests of compressed bodies: what they hold, what they cost, and how they are refused."""

import asyncio
import gzip
import itertools
import random
import zlib
from typing import Any

import pytest

from server.errors import ImageTooLarge, InvalidRequest, PromptIRServeError, QueueFull, UnsupportedEncoding
from server.http.body.body import Body, UploadRoom
from server.http.body.compression import MOST_MEMBERS, PIECE_BYTES, InflatedBody, as_sent

PLAIN = random.Random(1).randbytes(700_000) + bytes(3_000_000)
LIMIT, ROOM = 4_000_000, 8_000_000


class Sent:
    """A compressed body that comes in pieces of `step` bytes, and the most room that it took."""

    def __init__(self, data: bytes, encoding: str = "gzip", step: int = 50_000, room: int = ROOM) -> None:
        self.chunks = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
        self.room = UploadRoom(room)
        self.raw = Body(self.receive, len(data), LIMIT, self.room, 30.0)
        self.headers = {b"content-encoding": encoding.encode()}

    async def receive(self) -> Any:
        chunk = self.chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}

    async def read(self) -> bytes:
        body, read = as_sent(self.headers, self.raw, self.room), b""
        try:
            while not body.ended:
                piece = await body.chunk()
                assert len(piece) <= max(PIECE_BYTES, 50_000)
                read += piece
                assert self.room.used_bytes >= len(read)
        finally:
            body.release()
            assert self.room.used_bytes == 0
        return read


def refusal(sent: Sent) -> PromptIRServeError:
    with pytest.raises(PromptIRServeError) as caught:
        asyncio.run(sent.read())
    return caught.value


@pytest.mark.parametrize("step", [7919, 50_000, 10**9])
@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress(PLAIN)), ("deflate", zlib.compress(PLAIN))])
def test_it_comes_out_as_it_was_however_it_is_cut(encoding: str, packed: bytes, step: int) -> None:
    assert asyncio.run(Sent(packed, encoding, step).read()) == PLAIN


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_no_length_is_special(size: int) -> None:
    assert asyncio.run(Sent(gzip.compress(bytes(size))).read()) == bytes(size)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_without_an_encoding_it_is_the_body_itself(encoding: str) -> None:
    sent = Sent(PLAIN, encoding)
    assert as_sent(sent.headers, sent.raw, sent.room) is sent.raw


@pytest.mark.parametrize("encoding", ["X-GZIP", " gzip "])
def test_gzip_has_other_spellings(encoding: str) -> None:
    assert asyncio.run(Sent(gzip.compress(b"image"), encoding).read()) == b"image"


@pytest.mark.parametrize("step", [1, 10**9])
def test_files_of_gzip_one_behind_the_other_are_one(step: int) -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert asyncio.run(Sent(packed, step=step).read()) == b"one two"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_another_encoding_is_named(encoding: str) -> None:
    error = refusal(Sent(PLAIN, encoding))
    assert isinstance(error, UnsupportedEncoding)
    assert encoding in error.detail


@pytest.mark.parametrize(
    ("encoding", "packed", "words"),
    [
        ("gzip", PLAIN, "no gzip"),
        ("deflate", gzip.compress(PLAIN), "no deflate"),
        ("gzip", gzip.compress(PLAIN)[:-9], "cut off"),
        ("gzip", gzip.compress(PLAIN)[:100], "cut off"),
        ("gzip", b"", "cut off"),
        ("gzip", gzip.compress(PLAIN) + 9 * b"more", "no gzip"),
        ("deflate", zlib.compress(PLAIN) + b"more", "behind"),
        ("gzip", gzip.compress(PLAIN)[:-8] + bytes(8), "no gzip"),
        ("gzip", MOST_MEMBERS * gzip.compress(b"") + gzip.compress(b"x"), "parts"),
    ],
    ids=itertools.count(),
)
def test_broken_compression_is_refused_in_words(encoding: str, packed: bytes, words: str) -> None:
    error = refusal(Sent(packed, encoding))
    assert isinstance(error, InvalidRequest)
    assert words in error.detail


def test_a_bomb_is_refused_at_the_limit_and_never_holds_more() -> None:
    sent = Sent(gzip.compress(bytes(200 * LIMIT), 1), step=10**9)
    error = refusal(sent)
    assert isinstance(error, ImageTooLarge)
    assert "inflates" in error.detail


def test_what_it_inflates_to_takes_room_while_it_comes() -> None:
    sent = Sent(gzip.compress(PLAIN), room=1_000_000)
    assert isinstance(refusal(sent), QueueFull)


def test_others_have_their_turn_between_two_pieces() -> None:
    turns = []

    async def count() -> None:
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    async def run() -> None:
        counting = asyncio.create_task(count())
        await Sent(gzip.compress(bytes(LIMIT)), step=10**9).read()
        counting.cancel()

    asyncio.run(run())
    assert len(turns) >= LIMIT // PIECE_BYTES


def test_a_limit_may_be_raised_as_for_a_form() -> None:
    sent = Sent(gzip.compress(bytes(LIMIT + 10)))
    body = as_sent(sent.headers, sent.raw, sent.room)
    assert isinstance(body, InflatedBody)
    body.limit_bytes += 10

    async def read() -> int:
        size = 0
        while not body.ended:
            size += len(await body.chunk())
        return size

    assert asyncio.run(read()) == LIMIT + 10
