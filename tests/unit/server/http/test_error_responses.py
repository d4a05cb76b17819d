"""Tests of the table from errors to HTTP."""

import pytest

from server import errors
from server.errors import PromptIRServeError
from server.errors.problem import status_of
from server.http.error_responses import MEDIA_TYPE, openapi_responses


def tree(kind: type[PromptIRServeError]) -> list[type[PromptIRServeError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


@pytest.mark.parametrize("kind", tree(PromptIRServeError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_an_error_status(kind: type[PromptIRServeError]) -> None:
    assert 400 <= status_of(kind) < 600


@pytest.mark.parametrize("kind", tree(errors.InvalidImage), ids=lambda kind: kind.__name__)
def test_a_bad_image_is_always_the_clients_fault(kind: type[PromptIRServeError]) -> None:
    assert status_of(kind) < 500


def test_an_error_that_is_not_listed_has_the_status_of_the_one_above_it() -> None:
    class Hotter(errors.BackendLost):
        pass

    assert status_of(Hotter) == status_of(errors.BackendError) == 500


def test_errors_of_one_status_share_an_openapi_response() -> None:
    responses = openapi_responses(errors.EmptyUpload, errors.InvalidRequest, errors.QueueFull)
    assert set(responses) == {400, 429}
    assert "empty-upload" in responses[400]["description"]
    assert "invalid-request" in responses[400]["description"]
    assert "Retry-After" in responses[429]["headers"]
    assert all(set(response["content"]) == {MEDIA_TYPE} for response in responses.values())
