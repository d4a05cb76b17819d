"""Tests of the ShapeCache."""

from server.backends.shape_cache import MOST_COUNTED_SHAPES, ShapeCache

A, B, C = (1, 3, 8, 8), (1, 3, 8, 16), (1, 3, 16, 16)


def test_preparing_is_due_only_once_a_shape_has_come_often_enough() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=9, runs_before=2)
    assert [cache.is_due(A) for _ in range(4)] == [False, False, True, True]
    assert not cache.is_due(B)


def test_without_a_budget_nothing_is_ever_due() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=0, max_entries=9, runs_before=0)
    assert not cache.is_due(A)


def test_what_was_used_longest_ago_goes_when_the_bytes_run_out() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=9, runs_before=0)
    assert cache.put(A, "a", 40) == cache.put(B, "b", 40) == []
    assert cache.get(A) == "a"
    assert cache.put(C, "c", 60) == ["b"]
    assert (cache.get(A), cache.get(B), cache.get(C), cache.bytes) == ("a", None, "c", 100)


def test_what_was_used_longest_ago_goes_when_the_entries_run_out() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=2, runs_before=0)
    cache.put(A, "a", 1)
    cache.put(B, "b", 1)
    assert cache.put(C, "c", 1) == ["a"]
    assert len(cache) == 2


def test_what_exceeds_the_whole_budget_pushes_nothing_out_and_is_not_tried_again() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=9, runs_before=0)
    cache.put(A, "a", 100)
    assert cache.put(B, "b", 101) == ["b"]
    assert cache.get(A) == "a"
    assert not cache.is_due(B)


def test_a_shape_that_had_to_go_is_counted_from_the_start() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=1, runs_before=1)
    assert [cache.is_due(A), cache.is_due(A)] == [False, True]
    cache.put(A, "a", 1)
    cache.put(B, "b", 1)
    assert [cache.is_due(A), cache.is_due(A)] == [False, True]


def test_clearing_gives_everything_back() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=9, runs_before=0)
    cache.put(A, "a", 30)
    cache.put(B, "b", 30)
    assert cache.clear() == ["a", "b"]
    assert (len(cache), cache.bytes) == (0, 0)


def test_shapes_that_never_come_again_do_not_fill_the_memory() -> None:
    cache: ShapeCache[str] = ShapeCache(max_bytes=100, max_entries=9, runs_before=2)
    for side in range(3 * MOST_COUNTED_SHAPES):
        cache.is_due((1, 3, 8, side))
    assert len(cache._runs) <= MOST_COUNTED_SHAPES
