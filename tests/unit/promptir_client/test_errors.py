"""Tests of errors passed between processes."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from promptir_client import InvalidImage, Job, JobFailed, Problem, PromptIRError, TimedOut, TooManyRequests, Unreachable
from promptir_client.errors import problem_of

JOB = Job("0" * 32, "failed", 1, 2, None, {"detail": "broken"}, {"state": "failed"})
PROBLEM = json.dumps({"type": "urn:promptir:problem:queue-full", "detail": "full", "limit": 7}).encode()


def every_kind() -> list[PromptIRError]:
    problems = [problem_of(status, PROBLEM, "3") for status in (400, 401, 403, 404, 415, 429, 503, 500)]
    return [PromptIRError("x"), Unreachable("refused", sent=False), TimedOut("late"), JobFailed(JOB), *problems]


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])  # noqa: S301
def test_an_error_that_was_pickled_or_copied_says_the_same(again: Callable[[PromptIRError], PromptIRError]) -> None:
    for error in every_kind():
        other = again(error)
        assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_each_error_class_is_among_them() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    assert {type(error) for error in every_kind()} == below(PromptIRError) - {Problem}


def test_what_a_worker_may_do_with_them_works() -> None:
    full = pickle.loads(pickle.dumps(problem_of(429, PROBLEM, "3")))  # noqa: S301
    assert isinstance(full, TooManyRequests)
    assert (full.retry_after_s, full.slug, full.members["limit"]) == (3.0, "queue-full", 7)
    broken = problem_of(415, b"<html>", None)
    broken.add_note("photo 7")
    assert isinstance(broken, InvalidImage)
    assert pickle.loads(pickle.dumps(broken)).__notes__ == ["photo 7"]  # noqa: S301
