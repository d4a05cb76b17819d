"""Tests of the one file of a form."""

import itertools

import pytest

from server.errors import InvalidRequest
from server.http.body.file_buffer import FileBuffer
from server.http.body.form import FormFile

TYPE = "multipart/form-data; boundary=x"


def part(disposition: str, content: bytes) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def read(body: bytes, step: int = 1000) -> tuple[bytes, str | None]:
    """The content and the name of the file."""
    file = FileBuffer(lambda start: True)
    form = FormFile(TYPE, file)
    for at in range(0, len(body), step):
        form.feed(body[at : at + step])
    form.finish()
    return file.take(), form.filename


CONTENT = b"the \r\n--image\n--xyz\r\n--xyz\r\r\n"
FILE = part('name="file"; filename="\u00e9.png"', CONTENT)
END = b"--x--\r\n"
UNCHOSEN = part('name="mask"; filename=""', b"")


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "body",
    [
        part('name="comment"', b"skip me") + FILE + part('name="after"', b"") + END,
        b"a preamble, which --x is no boundary of\r\n--xy\r\n" + FILE + END + b"and an epilogue\r\n--x\r\n",
        b"\r\n\r\n" + FILE + END,
        (FILE + END).replace(b"--x\r\n", b"--x \t\r\n", 1),
        UNCHOSEN + FILE + END,
        FILE + UNCHOSEN + END,
        part('name="file"; filename=""', b"") + FILE + END,
        FILE + part('name="file"; filename="other.png"', b"") + END,
        FILE.replace(b"Content-D", b"Content-Type: image/png\r\nContent-Length: 3\r\ncONTENT-d") + END,
        FILE.replace(b"data; name", b"data;\r\n name") + END,
        FILE.replace(b'"file"', b"file") + END[:-2],
    ],
    ids=range(11),
)
def test_the_file_is_the_same_however_the_body_is_cut_and_whatever_is_around_it(body: bytes, step: int) -> None:
    assert read(body, step) == (CONTENT, "\u00e9.png")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_lines_may_end_in_line_feeds_alone(step: int) -> None:
    content = b"PNG\r\n\x1a\n--xy\n\r\n\r"
    head = b'\n--x\nContent-Disposition: form-data; name="file"; filename="a.png"\nContent-Type: image/png\n\n'
    comment = b'\n--x\nContent-Disposition: form-data; name="comment"\n\n\n--x--\n'
    assert read(head + content + comment, step) == (content, "a.png")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("filename*=UTF-8''%E6%9D%B1.png", "\u6771.png"),
        ("filename=\"x.png\"; filename*=UTF-8''%E6%9D%B1.png", "\u6771.png"),
        ("filename*=utf-8'ja'%E6%9D%B1.png; filename=x.png", "\u6771.png"),
        ("filename*=\"utf-8''%E6%9D%B1.png\"", "\u6771.png"),  # .NET quotes it
        ("filename=a.png; filename*=utf-8''a.png", "a.png"),
        ("filename*=iso-8859-1'en'%A3.png", "\u00a3.png"),
        ("filename*=undefined''%C3%A9.png", "\u00e9.png"),
        ("filename*=utf-8''%ff%zz.png", "\ufffd%zz.png"),
        ('filename*0="ab"; filename*1="c.png"', "abc.png"),
        ('FileName="a\\"b;c.png"', 'a"b;c.png'),
        ('filename="caf\u00e9.png"', "caf\u00e9.png"),
    ],
)
def test_the_extended_name_of_a_file_wins(names: str, expected: str) -> None:
    assert read(part(f"name=file; {names}", b"image") + END) == (b"image", expected)


def test_a_name_in_another_encoding_is_kept_as_far_as_it_can_be_read() -> None:
    body = part('name="file"; filename="caf?.png"', b"image").replace(b"?", b"\xe9")
    assert read(body + END) == (b"image", "caf\ufffd.png")


@pytest.mark.parametrize(
    "body",
    [
        END,
        FILE,  # the end is missing
        part('name="file"', b"no file name") + END,
        part('name="other"; filename="a"', b"another field") + END,
        FILE + FILE + END,
        FILE + part('name="other"; filename="b"', b"x") + END,
        part("", b"no name") + END,
        b"--x\r\n\r\nno headers\r\n" + END,
        b"--x\r\nno header\r\n\r\n" + END,
        b"".join(part(f'name="{number}"', b"") for number in range(17)) + FILE + END,
        17 * UNCHOSEN + FILE + END,
        b"nothing of a form",
        part(f'name="file"; filename="{9000 * "a"}"', b"x") + END,
        (FILE + END).replace(b"--x", b"--y"),
    ],
    ids=itertools.count(),
)
def test_what_holds_not_just_one_file_in_the_field_is_refused(body: bytes) -> None:
    for step in (1, 1000, 100_000):
        with pytest.raises(InvalidRequest):
            read(body, step)


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
def test_a_part_that_is_encoded_as_in_mail_is_refused_by_the_name_of_its_encoding(encoding: str) -> None:
    header = f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    with pytest.raises(InvalidRequest, match=encoding.lower()):
        read(FILE.replace(b"\r\n\r\n", header, 1) + END)
    assert read(FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: binary\r\n\r\n", 1) + END)[0] == CONTENT


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", TYPE + "y" * 300])
def test_a_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        FormFile(content_type, FileBuffer(lambda start: True))


def test_a_file_without_a_filename_is_told_how_to_send_one() -> None:
    with pytest.raises(InvalidRequest, match=r"no file in the field `file`\. Its `file` is text") as caught:
        read(part('name="file"', b"the bytes of a photo") + END)
    assert caught.value.extensions == {"expected_field": "file"}
