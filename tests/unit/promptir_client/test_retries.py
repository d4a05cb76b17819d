"""Tests of the retry policy and its pauses."""

import pytest

from promptir_client.errors import PromptIRError, TimedOut, Unreachable, problem_of
from promptir_client.retries import Retries


def problem(status: int, slug: str = "", retry_after: str | None = None) -> PromptIRError:
    return problem_of(status, f'{{"type": "urn:promptir:problem:{slug}"}}'.encode(), retry_after)


def test_waits_double_up_to_the_longest_and_are_shortened_by_up_to_a_half() -> None:
    for draw, expected in ((0.0, [1, 2, 4, 5, 5]), (1.0, [0.5, 1, 2, 2.5, 2.5])):
        retries = Retries(attempts=9, first_s=1, longest_s=5, random=lambda draw=draw: draw)
        assert [retries.pause_s(problem(503), attempt) for attempt in range(1, 6)] == expected


def test_a_server_that_says_when_is_never_asked_earlier() -> None:
    for draw in (0.0, 0.5, 1.0):
        pause_s = Retries(random=lambda draw=draw: draw).pause_s(problem(429, retry_after="20"), 1)
        assert pause_s is not None
        assert 20 <= pause_s <= 25


@pytest.mark.parametrize("error", [problem(429), problem(502), problem(503), problem(500, "backend-lost")])
def test_what_passes_is_tried_again(error: PromptIRError) -> None:
    assert Retries().pause_s(error, 1) is not None
    assert Retries(attempts=3).pause_s(error, 3) is None


@pytest.mark.parametrize(
    "error", [*(problem(status) for status in (400, 401, 403, 404, 410, 413, 422, 500, 504, 507)), TimedOut("late")]
)
def test_what_stays_is_not(error: PromptIRError) -> None:
    assert Retries().pause_s(error, 1) is None


def test_what_must_not_run_twice_is_sent_again_only_where_it_cannot_have_been_taken() -> None:
    sent, unsent = Unreachable("broken", sent=True), Unreachable("refused", sent=False)
    assert Retries().pause_s(sent, 1) is not None
    assert Retries().pause_s(sent, 1, repeatable=False) is None
    assert Retries().pause_s(unsent, 1, repeatable=False) is not None
    assert Retries().pause_s(problem(500, "backend-lost"), 1, repeatable=False) is None
