"""Tests of values as JSON nests them: exactly as the shape says, or not at all."""

from typing import Any

import numpy as np
import pytest

from server.errors import InvalidRequest
from server.open_inference.models import Datatype
from server.open_inference.tensors import Shape, from_values

DIMS = (1, 3, 2, 2)
PIXELS = np.arange(12, dtype=np.uint8).reshape(DIMS)
SHAPE = Shape(Datatype.UINT8, DIMS)
FLAT = PIXELS.ravel().tolist()
FILE = Shape(Datatype.BYTES, (1,))


@pytest.mark.parametrize("values", [FLAT, PIXELS.tolist()], ids=["flat", "nested"])
def test_flat_and_nested_values_are_the_same_pixels(values: Any) -> None:
    np.testing.assert_array_equal(from_values(SHAPE, values), PIXELS)
    floats = from_values(Shape(Datatype.FP32, DIMS), (np.array(values) / 255).tolist())
    np.testing.assert_allclose(floats, PIXELS / 255, atol=1e-7)


@pytest.mark.parametrize(
    "values",
    [
        PIXELS.transpose(0, 2, 3, 1).tolist(),  # HWC: taken for CHW it would be a scrambled photo
        PIXELS[0].tolist(),
        [PIXELS.tolist()],
        [FLAT],
        [[value] for value in FLAT],
        PIXELS.reshape(3, 4).tolist(),
        PIXELS.reshape(1, 2, 3, 2).tolist(),
        [*PIXELS[:, :2].tolist(), [7, 8, 9, 10]],
        [*FLAT[:11], [11]],
        FLAT[:11],
        [*FLAT, 12],
        [],
        [[]],
        {},
        "0",
        7,
        None,
    ],
    ids=str,
)
def test_values_that_contradict_the_shape_are_refused(values: Any) -> None:
    for datatype in (Datatype.UINT8, Datatype.FP32):
        with pytest.raises(InvalidRequest, match=r"shape|values"):
            from_values(Shape(datatype, DIMS), values)


@pytest.mark.parametrize("value", [True, None, "1", {}, 0.5, 1.0, -1, 256, 10**30, 10**400, float("nan")], ids=str)
def test_a_value_that_a_byte_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"UINT8|nested"):
        from_values(SHAPE, [*FLAT[:11], value])


@pytest.mark.parametrize(
    "value", [True, None, "x" * 1_000_000, {}, 1.5, -0.1, 2, 10**30, 10**400, float("nan"), float("inf")], ids=repr
)
def test_a_value_that_is_no_share_of_one_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"0\.\.1|numbers alone"):
        from_values(Shape(Datatype.FP32, DIMS), [*([0] * 11), value])


@pytest.mark.parametrize("value", [5, True, 10**10, 10**30, -1, 1.5, None, {}, {"b64": "YQ=="}], ids=str)
def test_a_file_that_is_not_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="strings of base64 alone"):
        from_values(FILE, [value])


@pytest.mark.parametrize("value", [[1, 2, 3], [[1]], [["YQ=="]], "YQ==", ["YQ==", "YQ=="], []], ids=str)
def test_files_that_are_nested_otherwise_or_not_as_many_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        from_values(FILE, value if isinstance(value, str) else [value])


def test_files_come_flat_or_in_rows_of_one() -> None:
    column = Shape(Datatype.BYTES, (2, 1))
    assert from_values(column, ["YQ==", "Yg=="]) == from_values(column, [["YQ=="], ["Yg=="]]) == [b"a", b"b"]
    with pytest.raises(InvalidRequest):
        from_values(column, [["YQ==", "Yg=="]])
