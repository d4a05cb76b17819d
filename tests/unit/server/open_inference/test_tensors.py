"""Tests of tensors in their raw form; what the JSON form refuses is asked of a real server."""

import base64

import numpy as np
import pytest

from server.errors import InvalidRequest
from server.open_inference.tensors import MAX_VALUES, Shape, from_raw, from_values, raw_of

FLOATS = Shape.of("image", "FP32", [1, 3, 2, 2])
FILES = Shape.of("image", "BYTES", [2])


def test_floats_are_a_view_of_the_bytes() -> None:
    raw = np.linspace(0, 1, 12, dtype="<f4").tobytes()
    pixels = from_raw(FLOATS, memoryview(b"json" + raw)[4:])
    assert isinstance(pixels, np.ndarray)
    assert not pixels.flags.owndata
    assert b"".join(raw_of(list(pixels))) == raw


def test_files_come_back_as_they_went() -> None:
    files = [b"", b"a file"]
    assert from_raw(FILES, b"".join(raw_of(files))) == files


@pytest.mark.parametrize(
    "raw", [b"", b"\x01\x00\x00\x00a", b"\x00\x00\x00\x00" * 3, b"\x00\x00\x00\x00\x02\x00\x00\x00a", b"\x00" * 7]
)
def test_files_that_are_fewer_more_or_cut_off(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"elements|within an element"):
        from_raw(FILES, raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001])
def test_one_value_out_of_range_is_enough(value: float) -> None:
    pixels = np.zeros((1, 3, 2, 2), np.float32)
    pixels[0, 1, 1, 0] = value
    with pytest.raises(InvalidRequest, match=r"0\.\.1"):
        from_raw(FLOATS, pixels.tobytes())


def test_large_tensors_are_not_taken_number_by_number() -> None:
    side = int((MAX_VALUES / 3) ** 0.5) + 1
    with pytest.raises(InvalidRequest, match="binary data"):
        from_values(Shape.of("image", "UINT8", [1, 3, side, side]), [])


@pytest.mark.parametrize(
    ("datatype", "dims"), [("UINT8", [0, 3, 8, 8]), ("UINT8", [1, 3, 8, -8]), ("BYTES", [1, 2]), ("BYTES", [])]
)
def test_shapes_without_an_image(datatype: str, dims: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        Shape.of("image", datatype, dims)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 786_431, 786_432, 786_433, 2_000_000])
def test_a_file_as_base64_is_read_in_steps_as_it_would_be_at_once(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert from_values(Shape.of("image", "BYTES", [1]), [base64.b64encode(data).decode()]) == [data]


@pytest.mark.parametrize(
    "text", ["=", "AA=A", "AAA", "A" * (2**20 - 2) + "==" + "AAAA", "A" * 2**20 + "A", "A" * 2**20 + "\n", "Ä" * 4]
)
def test_what_is_no_base64_is_refused_wherever_a_step_ends(text: str) -> None:
    with pytest.raises(InvalidRequest, match="base64"):
        from_values(Shape.of("image", "BYTES", [1]), [text])
