"""Tests of the status codes of gRPC."""

import grpc
import pytest

from server import errors
from server.grpc.codes import code_of, metadata_of


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidRequest, "INVALID_ARGUMENT"),
        (errors.UnknownModel, "NOT_FOUND"),
        (errors.Unauthorized, "UNAUTHENTICATED"),
        (errors.Forbidden, "PERMISSION_DENIED"),
        (errors.QuotaExceeded, "RESOURCE_EXHAUSTED"),
        (errors.ImageTooLarge, "INVALID_ARGUMENT"),
        (errors.UndecodableImage, "INVALID_ARGUMENT"),
        (errors.UnsupportedSize, "INVALID_ARGUMENT"),
        (errors.UploadStalled, "DEADLINE_EXCEEDED"),
        (errors.QueueFull, "RESOURCE_EXHAUSTED"),
        (errors.DeadlineUnmet, "RESOURCE_EXHAUSTED"),
        (errors.Draining, "UNAVAILABLE"),
        (errors.NotReady, "UNAVAILABLE"),
        (errors.DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (errors.BackendLost, "INTERNAL"),
        (errors.PromptIRServeError, "INTERNAL"),
    ],
)
def test_an_error_has_the_code_that_its_http_status_means(kind: type[errors.PromptIRServeError], code: str) -> None:
    assert code_of(kind) is grpc.StatusCode[code]


def test_only_a_refusal_says_when_to_come_back() -> None:
    assert metadata_of(errors.InvalidRequest("no")) == ()
    assert metadata_of(errors.NotReady("no")) == ()
    assert metadata_of(errors.QueueFull("no", 1.2)) == (("retry-after", "2"), ("grpc-retry-pushback-ms", "2000"))
