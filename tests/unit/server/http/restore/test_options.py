"""Tests of what a client may ask for."""

import pytest

from server.errors import InvalidRequest, NotAcceptable
from server.formats.output import ColourPolicy, MetadataPolicy, OutputFormat, PngEffort
from server.http.restore.options import RequestOptions, read_options
from server.restore.options import RestoreOptions
from server.scheduling.queue.tile import Priority


def test_nothing_asked_for_is_all_defaults() -> None:
    assert read_options(b"", {b"content-type": b"image/png", b"accept": b"*/*"}) == RequestOptions(
        RestoreOptions(OutputFormat.PNG, 90), None, Priority.INTERACTIVE
    )


def test_query_and_headers_are_read() -> None:
    headers = {b"x-deadline-ms": b"1500", b"x-priority": b"batch"}
    options = read_options(b"format=jpeg&quality=%35", headers)
    assert options == RequestOptions(RestoreOptions(OutputFormat.JPEG, 5), 1.5, Priority.BATCH)


@pytest.mark.parametrize(
    ("query", "headers", "names"),
    [
        (b"format=gif", {}, ["format"]),
        (b"unknown=1&quality=5", {}, ["unknown"]),
        (b"Format=jpeg", {}, ["Format"]),
        (b"=jpeg", {}, [""]),
        (b"qualty=x&quality=x", {}, ["qualty", "quality"]),
        (b"quality=0", {}, ["quality"]),
        (b"strength=1.01", {}, ["strength"]),
        (b"strength=nan", {}, ["strength"]),
        (b"effort=best&metadata=all&color=p3", {}, ["effort", "metadata", "color"]),
        (b"tile=big&overlap=-1&report=perhaps", {}, ["tile", "overlap", "report"]),
        (b"quality=", {}, ["quality"]),
        (b"quality=\xff", {}, ["quality"]),
        (b"", {b"x-deadline-ms": b"0"}, ["X-Deadline-Ms"]),
        (b"", {b"x-deadline-ms": b"\xe9"}, ["X-Deadline-Ms"]),
        (b"", {b"x-priority": b"Batch"}, ["X-Priority"]),
        (b"format=gif&quality=x", {b"x-priority": b""}, ["quality", "format", "X-Priority"]),
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


def test_every_option_of_the_query_reaches_the_restoration() -> None:
    query = (
        b"format=same&quality=7&effort=small&metadata=strip&color=srgb&strength=0.25&tile=256&overlap=16&report=true"
    )
    assert read_options(query, {}).restore == RestoreOptions(
        None, 7, PngEffort.SMALL, MetadataPolicy.STRIP, ColourPolicy.SRGB, 0.25, 256, 16, True
    )


@pytest.mark.parametrize(
    ("accept", "output"),
    [
        (b"", OutputFormat.PNG),
        (b"image/*", OutputFormat.PNG),
        (b"text/html, */*;q=0.1", OutputFormat.PNG),
        (b"image/webp", OutputFormat.WEBP),
        (b"image/webp;q=0.5, image/avif;q=0.9", OutputFormat.AVIF),
        (b"image/jpeg, image/*;q=0.8", OutputFormat.JPEG),
        (b"image/png;q=0, image/*", OutputFormat.JPEG),
        (b"IMAGE/TIFF ; Q=1.0", OutputFormat.TIFF),
    ],
)
def test_accept_chooses_the_format_by_its_weights(accept: bytes, output: OutputFormat) -> None:
    assert read_options(b"", {b"accept": accept}).restore.output is output


def test_the_query_wins_over_accept() -> None:
    assert read_options(b"format=jpeg", {b"accept": b"image/webp"}).restore.output is OutputFormat.JPEG
    assert read_options(b"format=png", {b"accept": b"text/html"}).restore.output is OutputFormat.PNG


@pytest.mark.parametrize("accept", [b"text/html", b"image/gif", b"image/*;q=0", b"application/json", b"image/png;q=x"])
def test_nothing_acceptable_is_said_with_what_there_is(accept: bytes) -> None:
    with pytest.raises(NotAcceptable) as caught:
        read_options(b"", {b"accept": accept})
    assert caught.value.extensions["acceptable_media_types"] == [output.media_type for output in OutputFormat]


@pytest.mark.parametrize(
    ("accept", "as_json"),
    [(b"*/*", False), (b"application/json", True), (b"multipart/mixed, application/json;q=0.5", False)],
)
def test_a_report_is_json_only_for_who_names_it(accept: bytes, as_json: bool) -> None:
    options = read_options(b"report=true", {b"accept": accept})
    assert (options.as_json, options.restore.output) == (as_json, OutputFormat.PNG)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        (b"fromat=jpeg", "did you mean format?"),
        (b"colour=srgb", "did you mean color?"),
        (b"FORMAT=jpeg", "did you mean format?"),
        (b"titles=4", "did you mean tile?"),
        (b"utm_source=x", "there are quality, effort"),
    ],
)
def test_an_option_that_is_misspelt_is_told_with_the_nearest(query: bytes, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_options(query, {})
    assert hint in caught.value.detail


def test_a_query_of_nonsense_is_answered_shortly() -> None:
    for query in (b"&".join(b"a%d=b" % number for number in range(8000)), b"a" * 60_000 + b"=1"):
        with pytest.raises(InvalidRequest) as caught:
            read_options(query, {})
        assert len(caught.value.detail) < 1000


@pytest.mark.parametrize("query", [b"model=a&model=b", b"strength=1&strength=1", b"format=png&quality=5&format=png"])
def test_an_option_is_given_once(query: bytes) -> None:
    name = query.decode().partition("=")[0]
    with pytest.raises(InvalidRequest, match=f"query parameter {name}: is given more than once") as caught:
        read_options(query, {})
    assert caught.value.extensions["errors"] == [{"in": "query", "name": name, "message": "is given more than once"}]
