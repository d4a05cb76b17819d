"""Tests of what a client may ask for."""

import pytest

from server.api.options import RestoreOptions, read_options
from server.batching.job import Priority
from server.errors import InvalidRequest
from server.imaging.codec import OutputFormat


def test_nothing_asked_for_is_all_defaults() -> None:
    assert read_options(b"", {b"content-type": b"image/png"}) == RestoreOptions(
        OutputFormat.PNG, 90, None, Priority.INTERACTIVE
    )


def test_query_and_headers_are_read() -> None:
    headers = {b"x-deadline-ms": b"1500", b"x-priority": b"batch"}
    options = read_options(b"format=jpeg&quality=%35&unknown=1", headers)
    assert options == RestoreOptions(OutputFormat.JPEG, 5, 1.5, Priority.BATCH)


@pytest.mark.parametrize(
    ("query", "headers", "names"),
    [
        (b"format=gif", {}, ["format"]),
        (b"quality=0", {}, ["quality"]),
        (b"quality=", {}, ["quality"]),
        (b"quality=\xff", {}, ["quality"]),
        (b"", {b"x-deadline-ms": b"0"}, ["X-Deadline-Ms"]),
        (b"", {b"x-deadline-ms": b"\xe9"}, ["X-Deadline-Ms"]),
        (b"", {b"x-priority": b"Batch"}, ["X-Priority"]),
        (b"format=gif&quality=x", {b"x-priority": b""}, ["format", "quality", "X-Priority"]),
    ],
)
def test_every_fault_is_named(query: bytes, headers: dict[bytes, bytes], names: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_options(query, headers)
    faults = caught.value.extensions["errors"]
    assert isinstance(faults, list)
    assert [fault["name"] for fault in faults] == names
    assert {fault["in"] for fault in faults} <= {"query", "header"}
    for name in names:
        assert name in caught.value.detail
