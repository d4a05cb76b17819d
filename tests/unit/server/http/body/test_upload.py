"""Tests of the upload: whatever is sent, and however it is cut, it is read or refused as one of our errors."""

import asyncio
import itertools
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from server.errors import InvalidImage, InvalidRequest, PromptIRServeError
from server.http.body.body import Body, UploadRoom
from server.http.body.upload import Upload, read_upload

ROOM = 1_000_000
STALL_S = 30.0
FORM = b"multipart/form-data; boundary=x"
START = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
END = b"\r\n--x--\r\n"
# Pieces of forms, so that what is put together is often nearly one.
PIECES = [
    b"--x",
    b"--x--",
    b"\r\n",
    b"\r",
    b"\n",
    START,
    END,
    b"--",
    b"Content-Disposition: ",
    b"form-data; name=",
    b'"',
]
PIECES += [
    b"file",
    b"; filename=",
    b"a",
    b": ",
    b"\x00",
    b"\xff" * 9,
    b"-" * 50,
    b"Content-Type: a/b\r\n",
    b"filename*=",
]
TYPES = [
    FORM,
    b"multipart/form-data",
    b'multipart/form-data; boundary="',
    b"image/png",
    b"",
    b"text/plain",
    b"\xff/;=;",
]

forms = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12).map(b"".join)
fuzz = settings(derandomize=True, deadline=None, max_examples=150)


def read(data: bytes, content_type: bytes, cuts: list[int]) -> Upload | PromptIRServeError:
    """What the upload comes to when the bytes arrive cut at these places; the room it took is given back."""
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)] or [b""]

    async def receive() -> Any:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    room = UploadRoom(ROOM)
    body = Body(receive, None, ROOM // 2, room, STALL_S)
    try:
        return asyncio.run(read_upload({b"content-type": content_type}, body, lambda start: False))
    except (InvalidImage, InvalidRequest) as error:
        return error
    finally:
        body.release()
        assert room.used_bytes == 0


def told(outcome: Upload | PromptIRServeError) -> object:
    return outcome if isinstance(outcome, Upload) else (type(outcome), outcome.detail)


cuts = st.lists(st.integers(0, 300), max_size=8)


@fuzz
@given(forms, st.sampled_from(TYPES) | st.binary(max_size=60), cuts)
@example(START + b"x" + END, FORM, [len(START) + 2])
def test_anything_is_an_upload_or_a_refusal_however_it_is_cut(
    data: bytes, content_type: bytes, cuts: list[int]
) -> None:
    assert told(read(data, content_type, cuts)) == told(read(data, content_type, []))


@fuzz
@given(st.binary(min_size=1, max_size=200), cuts)
def test_a_file_comes_out_of_a_form_as_it_went_in(data: bytes, cuts: list[int]) -> None:
    assume(b"--x" not in data)
    assert read(START + data + END, FORM, cuts) == Upload(data, "a.png")


@fuzz
@given(st.binary(min_size=1, max_size=200), cuts)
def test_a_raw_body_comes_out_as_it_went_in(data: bytes, cuts: list[int]) -> None:
    assert read(data, b"image/png", cuts) == Upload(data, None)
