"""Tests of the one file of a form."""

import pytest

from server.api.form import FormFile
from server.errors import InvalidRequest

TYPE = "multipart/form-data; boundary=x"


def part(disposition: str, content: bytes) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def read(body: bytes, step: int = 1000) -> FormFile:
    form = FormFile(TYPE)
    for at in range(0, len(body), step):
        form.feed(body[at : at + step])
    form.finish()
    return form


FILE = part('name="file"; filename="\u00e9.png"', b"the \r\n--image")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_file_is_the_same_however_the_body_is_cut(step: int) -> None:
    body = part('name="comment"', b"skip me") + FILE + part('name="after"', b"") + b"--x--\r\n"
    form = read(body, step)
    assert b"".join(form.parts) == b"the \r\n--image"
    assert form.size == len(b"the \r\n--image")
    assert form.filename == "\u00e9.png"


@pytest.mark.parametrize(
    "body",
    [
        b"--x--\r\n",
        FILE,  # the end is missing
        part('name="file"', b"no file name") + b"--x--\r\n",
        part('name="other"; filename="a"', b"another field") + b"--x--\r\n",
        FILE + FILE + b"--x--\r\n",
        part("", b"no name") + b"--x--\r\n",
        b"".join(part(f'name="{number}"', b"") for number in range(17)) + FILE + b"--x--\r\n",
        b"nothing of a form",
    ],
)
def test_what_holds_not_just_one_file_in_the_field_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", TYPE + "y" * 300])
def test_a_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        FormFile(content_type)
