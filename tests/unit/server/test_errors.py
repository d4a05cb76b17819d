"""Tests of the error tree."""

from collections.abc import Iterator

import pytest

from server import errors
from server.errors import BackendLost, PromptIRServeError, QueueFull, WrongOutput


def _descendants(root: type[PromptIRServeError]) -> Iterator[type[PromptIRServeError]]:
    for child in root.__subclasses__():
        yield child
        yield from _descendants(child)


TREE = [PromptIRServeError, *_descendants(PromptIRServeError)]


def test_every_class_has_its_own_slug_and_title() -> None:
    assert len({error.slug for error in TREE}) == len(TREE)
    assert len({error.title for error in TREE}) == len(TREE)


@pytest.mark.parametrize("error", TREE)
def test_a_slug_is_kebab_case(error: type[PromptIRServeError]) -> None:
    assert all(word.isalnum() and word.islower() for word in error.slug.split("-"))


def test_the_drawing_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn: list[tuple[str, str]] = []
    above: dict[int, str] = {}
    for line in errors.__doc__.splitlines():
        if "── " in line:
            before, rest = line.split("── ", 1)
            name = rest.split()[0]
            above[len(before)] = name
            parent = max((depth for depth in above if depth < len(before)), default=None)
            drawn.append((name, "PromptIRServeError" if parent is None else above[parent]))
    assert set(drawn) == {(error.__name__, error.__bases__[0].__name__) for error in TREE[1:]}


def test_detail_and_extensions_reach_the_client() -> None:
    error = QueueFull("128 images wait already", retry_after_s=2.5, queued=128)
    assert (str(error), error.detail) == ("128 images wait already",) * 2
    assert error.retry_after_s == 2.5
    assert error.extensions == {"queued": 128}


def test_a_run_that_failed_is_not_confused_with_a_refusal() -> None:
    assert not issubclass(BackendLost, errors.Refused)
    assert issubclass(WrongOutput, errors.BackendError)
