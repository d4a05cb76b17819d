"""Tests of hostile input over HTTP: invalid or lying files, forms, queries and headers."""

from typing import Any

import httpx
import pytest
from malformed import corpus
from problems import assert_sound

LYING_TYPES = ("image/png", "image/x-nothing", "application/octet-stream", "IMAGE/JPEG; q=\xff", "")
REFUSALS = {400, 413, 415, 422}


def assert_restored_or_problem(response: httpx.Response) -> None:
    if response.status_code == 200:
        assert response.headers["content-type"] == "image/png"
        assert response.content.startswith(b"\x89PNG")
        return
    assert response.status_code in REFUSALS, response.text
    assert_sound(response.status_code, response.headers, response.json())


def test_no_file_of_the_corpus_breaks_the_server_in_either_form(start: Any) -> None:
    server = start().until_ready()
    files = corpus()
    assert len(files) >= 170
    for number, (name, data) in enumerate(files.items()):
        kind = LYING_TYPES[number % len(LYING_TYPES)].encode("latin-1")
        raw = server.client.post("/restore", content=data, headers=[(b"content-type", kind)])
        form = server.client.post("/restore", files={"file": (name, data, "image/x-lie")})
        for response in (raw, form):
            assert_restored_or_problem(response)
        assert raw.status_code == form.status_code, name
    assert server.process.poll() is None
    unexpected = [line for line in server.lines if line["level"] in ("ERROR", "CRITICAL")]
    assert not unexpected


def form(*parts: bytes, boundary: bytes = b"x", end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x--\r\n",
        b"--y\r\n" + FILE + b"abc\r\n--y--\r\n",
        b"-" * 100_000,
        b"\r\n" * 100_000,
        form(),
        form(FILE, end=b""),
        form(FILE, FILE),
        form(*[FILE] * 1000),
        form(b"no header at all"),
        form(b"Content-Disposition: form-data\r\n\r\nabc"),
        form(b'Content-Disposition: form-data; name="file"\r\n\r\nabc'),
        form(b'Content-Disposition: form-data; name="other"; filename="a"\r\n\r\nabc'),
        form(b'Content-Disposition: form-data; name="file"; filename="' + b"a" * 500_000 + b'"\r\n\r\nabc'),
        form(b"X: " + b"y" * 500_000 + b"\r\n" + FILE + b"abc"),
        form(b"X: y\r\n" * 100_000 + FILE + b"abc"),
        form(*[b'Content-Disposition: form-data; name="a"\r\n\r\nb'] * 10_000),
        form(b"Content-Disposition: form-data; name*=utf-8''%ff; filename*=x'y'%zz\r\n\r\nabc"),
        form(b'Content-Disposition: form-data; name="file"; filename="\xff\x00\r\n\r\nabc'),
        form(FILE.replace(b"form-data", b"attachment; " * 3000) + b"abc"),
        form(b"Content-Transfer-Encoding: base64\r\n" + FILE + b"////"),
    ],
    ids=range(22),
)
def test_a_broken_form_is_refused_in_words(body: bytes, server: Any) -> None:
    response = server.client.post("/restore", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status_code in REFUSALS, response.text
    assert_sound(response.status_code, response.headers, response.json())


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary="',
        b"multipart/form-data; boundary=\xff\xfe",
        b"multipart/form-data; boundary=" + b"b" * 30_000,
        b"multipart/form-data; boundary*=utf-8''%zz",
        b"multipart/form-data; boundary*0=a; boundary*1=b; boundary*9=c",
        b"multipart/form-data; boundary*1",
        b"multipart/form-data; =; ;;;= ;",
        b"multipart/form-data" + b"; boundary=x" * 2000,
        b"multipart/mixed; boundary=x",
        b"multipart/",
        b"/",
        b"image",
        b"text/plain; charset=undefined",
        b"\xff" * 1000,
    ],
    ids=range(16),
)
def test_a_senseless_content_type_is_refused_in_words(content_type: bytes, server: Any) -> None:
    response = server.client.post("/restore", content=form(FILE), headers=[(b"content-type", content_type)])
    assert response.status_code in REFUSALS, response.text
    assert_sound(response.status_code, response.headers, response.json())


@pytest.mark.parametrize(
    "query",
    [
        "quality=NaN",
        "quality=1e2",
        "quality=-1",
        f"quality={'9' * 5000}",
        "quality=\u0663",
        "quality=",
        "format=",
        "format=%ff%00",
        "format=PNG%0d%0aX-Evil:1",
        f"format={'a' * 20_000}",
        "quality=5&quality=1000",
        "strength=nan",
        "strength=-0.1",
        "strength=1e400",
        "tile=-8",
        "tile=0",
        "overlap=-1",
        "overlap=1.5",
        "color=red",
        "metadata=",
        "effort=none",
        "report=maybe",
    ],
)
def test_nonsense_in_the_query_is_named(query: str, server: Any, png: Any) -> None:
    response = server.client.post(f"/restore?{query}", content=png(8, 8))
    assert response.status_code == 400, response.text
    assert_sound(400, response.headers, response.json())
    assert response.json()["errors"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Deadline-Ms", "9" * 5000),
        ("X-Deadline-Ms", "inf"),
        ("X-Deadline-Ms", "1e999"),
        ("X-Deadline-Ms", ""),
        ("X-Priority", "\u00ff"),
        ("X-Priority", "interactive, batch"),
    ],
)
def test_nonsense_in_a_header_is_named(name: str, value: str, server: Any, png: Any) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers=[(name.encode(), value.encode("latin-1"))])
    assert response.status_code == 400, response.text
    assert_sound(400, response.headers, response.json())
    assert response.json()["errors"]


@pytest.mark.parametrize("query", ["tile=1", "tile=65", f"tile={'9' * 400}", "tile=64&overlap=64", "overlap=999999999"])
def test_tiles_that_cannot_be_are_refused_in_words(query: str, server: Any, png: Any) -> None:
    response = server.client.post(f"/restore?{query}", content=png(200, 200))
    assert response.status_code == 400, response.text
    assert_sound(400, response.headers, response.json())


@pytest.mark.parametrize(
    "accept", [";;,,", "image/png;q=nan", "image/*;q=-1", "*/*;q=" + "9" * 5000, "a/b," * 5000, "\u00ff/\u00ff", "/"]
)
def test_nonsense_in_accept_is_a_picture_or_a_refusal(accept: str, server: Any, png: Any) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers=[(b"accept", accept.encode("latin-1"))])
    assert response.status_code in (200, 400, 406), response.text
    if response.status_code != 200:
        assert_sound(response.status_code, response.headers, response.json())


@pytest.mark.parametrize(
    "value", [str(2**31), str(2**53), str(10**30), "9" * 300], ids=["2**31", "2**53", "10**30", "10**300"]
)
def test_a_deadline_of_ages_is_kept_or_refused(value: str, server: Any, png: Any) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers={"X-Deadline-Ms": value})
    assert response.status_code in (200, 400), response.text


@pytest.mark.parametrize(
    "filename", ["\x00", "../../etc/passwd", "a" * 60_000, '"; x="', "\u202egnp.exe", "a\r\nX-Evil: 1", "\ud800"]
)
def test_a_hostile_file_name_reaches_no_header_as_it_is(filename: str, server: Any, png: Any) -> None:
    part = FILE.replace(b"a.png", filename.encode("utf-8", "surrogatepass")) + png(8, 8)
    response = server.client.post(
        "/restore", content=form(part), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code in (200, 400), response.text
    assert "x-evil" not in response.headers
    disposition = response.headers.get("content-disposition", "")
    assert len(disposition) < 2000
    assert "/" not in disposition
