"""Tests of answers that leave in one write."""

import asyncio
from typing import Any

from server.api.protocol import _Joining


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

    def get_extra_info(self, name: str) -> str:
        return name


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
