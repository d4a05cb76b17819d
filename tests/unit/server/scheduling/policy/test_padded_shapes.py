"""The padded shapes: few, chosen from the traffic, so that every size fits in one with little left over."""

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from server.scheduling.policy.mixed_sizes import (
    FIRST_AFTER,
    MOST_SHAPES,
    REFRESH_EVERY,
    PaddedShapes,
    choose_padded_shapes,
    fits,
)
from server.scheduling.queue.tile import PaddedShape

sides = st.integers(1, 8).map(lambda eighths: eighths * 8)
traffic = st.dictionaries(
    st.tuples(sides, sides).map(lambda size: (min(size), max(size))), st.integers(1, 9), min_size=1, max_size=6
).map(Counter)


def padded_shapes_after(*arrivals: PaddedShape) -> PaddedShapes:
    padded_shapes = PaddedShapes()
    for padded_shape in arrivals:
        padded_shapes.arrived(padded_shape)
    return padded_shapes


def left_over(sizes: Counter[tuple[int, int]], boxes: list[tuple[int, int]]) -> int:
    """Pixels of the smallest box for each size, beyond the size's own."""
    total = 0
    for size, count in sizes.items():
        held = [short * long for short, long in boxes if size[0] <= short and size[1] <= long]
        total += count * (min(held) - size[0] * size[1])
    return total


@given(sizes=traffic, most=st.integers(1, 4))
@settings(deadline=None)
def test_every_size_fits_and_there_are_no_more_padded_shapes_than_allowed(
    sizes: Counter[tuple[int, int]], most: int
) -> None:
    boxes = choose_padded_shapes(sizes, most)
    assert len(boxes) <= most
    assert left_over(sizes, boxes) >= 0


@given(sizes=traffic)
@settings(deadline=None)
def test_with_a_padded_shape_for_each_size_nothing_is_left_over(sizes: Counter[tuple[int, int]]) -> None:
    assert left_over(sizes, choose_padded_shapes(sizes, len(sizes))) == 0


@given(sizes=st.dictionaries(sides.map(lambda side: (side, side)), st.integers(1, 9), min_size=2).map(Counter))
@settings(deadline=None)
def test_of_squares_no_other_choice_leaves_less_over(sizes: Counter[tuple[int, int]]) -> None:
    largest = max(sizes)
    best = min(left_over(sizes, [*others, largest]) for others in combinations(sizes, 1))
    assert left_over(sizes, choose_padded_shapes(sizes, 2)) == best


def test_there_are_none_before_there_was_traffic() -> None:
    assert padded_shapes_after(*[PaddedShape(64, 64)] * (FIRST_AFTER - 1)).chosen == ()


def test_they_are_closed_under_turning() -> None:
    chosen = padded_shapes_after(*[PaddedShape(64, 96)] * FIRST_AFTER).chosen
    assert set(chosen) == {PaddedShape(64, 96), PaddedShape(96, 64)}


def test_they_follow_the_traffic() -> None:
    padded_shapes = padded_shapes_after(*[PaddedShape(64, 64)] * FIRST_AFTER)
    for _ in range(3 * REFRESH_EVERY):
        padded_shapes.arrived(PaddedShape(128, 128))
    assert padded_shapes.chosen == (PaddedShape(128, 128),)


def test_of_five_hundred_sizes_there_are_still_few_and_each_fits() -> None:
    sizes = [PaddedShape(64 + 8 * (n % 25), 64 + 8 * (n // 25)) for n in range(500)]
    chosen = padded_shapes_after(*sizes, *sizes).chosen
    assert len(chosen) <= 2 * MOST_SHAPES
    assert all(any(fits(size, padded_shape) for padded_shape in chosen) for size in sizes)


def test_given_padded_shapes_are_turned_too_and_no_traffic_changes_them() -> None:
    padded_shapes = PaddedShapes([PaddedShape(48, 64), PaddedShape(32, 32)])
    expected = (PaddedShape(32, 32), PaddedShape(48, 64), PaddedShape(64, 48))
    assert sorted(padded_shapes.chosen) == sorted(expected)
    for _ in range(2 * REFRESH_EVERY):
        padded_shapes.arrived(PaddedShape(16, 16))
    assert sorted(padded_shapes.chosen) == sorted(expected)
