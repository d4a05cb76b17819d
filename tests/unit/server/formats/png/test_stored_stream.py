"""Tests of stored streams, compared with zlib."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.formats.png.stored_stream import store, stored_bytes


def stored(pieces: list[bytes], size: int | None = None) -> tuple[int, bytes]:
    total = sum(map(len, pieces)) if size is None else size
    buffer = np.zeros(stored_bytes(total), np.uint8)
    return store(pieces, total, buffer), buffer.tobytes()


@given(st.lists(st.binary(), min_size=1).filter(any))
def test_a_stored_stream_inflates_to_the_stored_bytes_for_any_pieces(pieces: list[bytes]) -> None:
    found, stream = stored(pieces)
    assert (found, zlib.decompress(stream)) == (len(b"".join(pieces)), b"".join(pieces))


@pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 131_070, 200_001])
@pytest.mark.parametrize("piece", [1000, 65_535, 10**6])
def test_a_stored_stream_may_be_longer_than_one_block(size: int, piece: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    assert zlib.decompress(stored([data[at : at + piece] for at in range(0, size, piece)])[1]) == data


def test_missing_bytes_are_counted() -> None:
    assert stored([b"abc"], 5)[0] == 3
