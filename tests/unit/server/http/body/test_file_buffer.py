"""Tests of the buffer of a file that arrives."""

import tracemalloc

import pytest

from server.http.body.file_buffer import FileBuffer


@pytest.mark.parametrize("sizes", [[], [5], [1, 1], [0, 3, 0, 70_000, 1, 300_000, 2]])
def test_pieces_come_out_as_one(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    file = FileBuffer(lambda start: False)
    for piece in pieces:
        file.add(memoryview(piece))
    assert file.size == sum(sizes)
    assert file.take() == b"".join(pieces)
    assert file.take() == b""


def test_one_piece_is_never_copied() -> None:
    piece = b"image" * 1000
    file = FileBuffer(lambda start: False)
    file.add(piece)
    assert file.take() is piece


def test_the_beginning_is_shown_whenever_twice_as_much_is_there_until_it_was_enough() -> None:
    seen: list[bytes] = []

    def look(start: bytes) -> bool:
        seen.append(start)
        return len(start) >= 8

    file = FileBuffer(look)
    for letter in "abcdefghijklmnopqrst":
        file.add(letter.encode())
    assert seen == [b"a", b"ab", b"abcd", b"abcdefgh"]


def test_a_file_that_never_says_enough_is_not_shown_for_ever() -> None:
    shown: list[int] = []
    file = FileBuffer(lambda start: bool(shown.append(len(start))))
    for _ in range(100):
        file.add(bytes(50_000))
    assert shown[-1] < 600_000


def test_a_large_file_is_held_once() -> None:
    piece = bytes(64 * 1024)
    tracemalloc.start()
    try:
        file = FileBuffer(lambda start: True)
        for _ in range(320):  # 20 MB
            file.add(piece)
        data = file.take()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1.3 * len(data)


@pytest.mark.parametrize(("count", "size"), [(512, 3), (600, 3), (40, 300_000), (2, 9_000_000)])
def test_many_or_large_pieces_come_out_as_one_and_their_beginning_is_shown(count: int, size: int) -> None:
    pieces = [bytes([number % 256]) * size for number in range(count)]
    shown: list[bytes] = []
    file = FileBuffer(lambda start: bool(shown.append(start)))
    for piece in pieces:
        file.add(piece)
    whole = b"".join(pieces)
    assert file.take() == whole
    assert all(start == whole[: len(start)] for start in shown)


def test_many_small_pieces_take_up_little_more_than_their_bytes() -> None:
    tracemalloc.start()
    try:
        file = FileBuffer(lambda start: True)
        for number in range(100_000):
            file.add(number.to_bytes(4, "big"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * file.size
