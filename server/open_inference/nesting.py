"""Nesting: the values of a tensor in JSON, flat or nested exactly like its shape."""

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

from server.errors import InvalidRequest
from server.open_inference.models import INPUT


def flattened(values: Any, dims: Sequence[int]) -> list[Any]:
    """Flatten the values in order; raises InvalidRequest if their number or nesting does not match `dims`.

    Another nesting means another order of the values: [H, W, 3] read as [3, H, W] is a scrambled photo.
    """
    if not isinstance(values, list):
        raise InvalidRequest(f"{INPUT} must come with a list as its data, of {prod(dims)} values or nested.")
    count = prod(dims)
    if not any(isinstance(value, list) for value in values):
        if len(values) != count:
            raise InvalidRequest(f"{INPUT} has {len(values)} values; {list(dims)} has {count}.")
        return values
    level: list[Any] = [values]
    for depth, dim in enumerate(dims):
        # Checked before the next level is built: a wrong nesting could have any size.
        if not all(isinstance(part, list) and len(part) == dim for part in level):
            raise _uneven(dims, depth)
        level = list(chain.from_iterable(level))
    if any(isinstance(value, list) for value in level):
        raise _uneven(dims, len(dims))
    return level


def _uneven(dims: Sequence[int], depth: int) -> InvalidRequest:
    return InvalidRequest(
        f"{INPUT} is nested unevenly, or otherwise than its shape {list(dims)}: level {depth + 1} does not fit. Send "
        "the values flat, or nested as the shape."
    )
