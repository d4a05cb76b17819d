"""Tests of what an Accept header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.restore.accept import Accept

PNG, WEBP, JPEG, JSON = "image/png", "image/webp", "image/jpeg", "application/json"


@pytest.mark.parametrize("header", [None, "", " , ,"])
def test_who_asks_for_nothing_gets_the_first_of_what_is_offered(header: str | None) -> None:
    accept = Accept(header)
    assert accept.is_empty
    assert accept.best([WEBP, PNG]) == WEBP
    assert not accept.names(WEBP)


@pytest.mark.parametrize(
    ("header", "best"),
    [
        ("image/webp, image/png;q=0.9", WEBP),
        ("image/webp;q=0.2, image/png;q=0.9", PNG),
        ("image/*;q=0.5, image/webp", WEBP),
        ("*/*, image/png;q=0.1", WEBP),  # webp by the widest range
        ("*/*;q=0.1, image/*;q=0.3, image/png;q=0.2", WEBP),  # the nearest range counts, not the greatest weight
        ("image/png, image/webp", PNG),  # of equal weights the first offered
        ("IMAGE/WEBP;Q=1, image/png;q=0.5", WEBP),
        ("image/webp;level=1;q=0.1, image/png;q=0.2", PNG),
        ("text/html", None),
        ("image/*;q=0", None),
        ("image/png;q=0, image/webp;q=0, */*", None),
    ],
)
def test_the_type_of_the_greatest_weight_is_chosen(header: str, best: str | None) -> None:
    assert Accept(header).best([PNG, WEBP]) == best


@pytest.mark.parametrize(("weight", "expected"), [("2", 1.0), ("-1", 0.0), ("x", 0.0), ("", 0.0), ("0.25", 0.25)])
def test_a_weight_is_within_zero_and_one_and_nonsense_is_zero(weight: str, expected: float) -> None:
    assert Accept(f"image/png;q={weight}").weight(PNG) == expected


def test_a_type_is_named_only_by_itself() -> None:
    accept = Accept("application/*, image/png;q=0, image/jpeg")
    assert [accept.names(kind) for kind in (JSON, PNG, JPEG)] == [False, False, True]


def test_what_stands_behind_the_first_ranges_is_not_read() -> None:
    assert Accept("a/b," * 64 + PNG).best([PNG]) is None


@given(st.text())
def test_any_header_gives_weights_within_bounds(header: str) -> None:
    accept = Accept(header)
    assert all(0 <= accept.weight(kind) <= 1 for kind in (PNG, JSON))
