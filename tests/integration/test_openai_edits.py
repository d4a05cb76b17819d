"""`/v1/images/edits`, called by OpenAI's own client and by hand."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from raw_http import connect

from server.access.keys_file import Terms, new_key

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
PATH = "/v1/images/edits"


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is asked for", max_retries=0) as client:
        yield client


def decoded(answer: Any) -> list[bytes]:
    return [base64.b64decode(image.b64_json) for image in answer.data]


def test_the_client_gets_its_photo_restored(
    client: openai.OpenAI, png: Image, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(png(13, 21))
    with (tmp_path / "photo.png").open("rb") as photo:
        answer = client.images.edit(image=photo, prompt="restore it", model="gpt-image-1", size="1024x1024", n=1)
    assert answer.created > 0
    (data,) = decoded(answer)
    np.testing.assert_array_equal(samples(data), samples(png(13, 21)))


def test_several_photos_come_back_in_their_order_and_format(
    client: openai.OpenAI, png: Image, samples: Samples
) -> None:
    photos = [(f"{n}.png", io.BytesIO(png(8, 8 + n))) for n in range(3)]
    answer = client.images.edit(
        image=photos,
        prompt="",
        mask=("mask.png", png(8, 8)),
        output_format="webp",
        output_compression=70,
        n=2,
        response_format="b64_json",
        extra_body={"strength": "0.5"},
    )
    images = decoded(answer)
    assert [samples(data).shape[1] for data in images] == [8, 8, 9, 9, 10, 10]
    assert all(data[8:12] == b"WEBP" for data in images)


@pytest.mark.parametrize(
    ("named", "param", "words"),
    [
        ({"response_format": "url"}, "response_format", "b64_json"),
        ({"n": 11}, "n", "from 1 to 10"),
        ({"n": 0}, "n", "from 1 to 10"),
        ({"output_format": "gif"}, "output_format", "jpeg"),
        ({"output_compression": 101}, "output_compression", "0 to 100"),
        ({"extra_body": {"strength": "nan"}}, "strength", "0 to 1"),
        ({"extra_body": {"stream": "true"}}, "stream", "false"),
        ({"image": []}, "image", "1 to 16"),
    ],
)
def test_a_wrong_field_is_named_as_the_client_expects(
    client: openai.OpenAI, png: Image, named: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.images.edit(**({"image": ("a.png", png(8, 8)), "prompt": ""} | named))
    assert (error.value.param, error.value.code) == (param, "invalid-request")
    assert words in error.value.message


def test_a_field_that_is_read_is_given_once(server: Any, png: Image) -> None:
    photo = {"image": ("a.png", png(8, 8))}
    twice = server.client.post(PATH, files=photo, data={"n": ["1", "2"]})
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "n")
    assert "given more than once" in twice.json()["error"]["message"]
    assert server.client.post(PATH, files=photo, data={"tag": ["a", "b"]}).status_code == 200


def test_bad_images_are_told_apart_by_status_and_code(client: openai.OpenAI, png: Image) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.images.edit(image=("a.png", b"no image at all"), prompt="")
    assert (error.value.status_code, error.value.code) == (415, "unsupported-image")
    with pytest.raises(openai.UnprocessableEntityError) as cut:
        client.images.edit(image=[("a.png", png(8, 8)), ("b.png", png(60, 60)[:2000])], prompt="")
    assert cut.value.code == "undecodable-image"
    assert cut.value.type == "invalid_request_error"


def test_what_is_no_form_or_too_much_is_refused_in_the_same_form(server: Any, start: Any, png: Image) -> None:
    for request, status in (
        ({"content": png(8, 8)}, 400),
        ({"json": {"images": []}}, 400),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"files": {"image": ("a.png", b"")}}, 400),
        ({"files": [("image", (f"{n}.png", png(8, 8))) for n in range(17)]}, 400),
        ({"files": {"image": ("a.png", png(8, 8))}, "data": {"prompt": "x" * 300_000}}, 400),
        ({"files": {"image": ("a.png", png(8, 8))}, "data": {f"f{n}": "x" for n in range(40)}}, 400),
    ):
        response = server.client.post(PATH, **request)
        assert response.status_code == status, response.text
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    small = start(max_upload_bytes=5000).until_ready()
    large = small.client.post(PATH, files=[("image[]", (f"{n}.png", bytes(2000))) for n in range(4)])
    assert (large.status_code, large.json()["error"]["code"]) == (413, "image-too-large")
    assert server.client.get(PATH).status_code == 405
    assert server.client.options(PATH).headers["allow"] == "OPTIONS, POST"


def test_a_key_is_the_bearer_that_the_client_sends(start: Any, tmp_path: Path, png: Image) -> None:
    key, line = new_key("ada", Terms(megapixels_per_minute=0.001))
    (tmp_path / "keys").write_text(line)
    server = start(keys_file=tmp_path / "keys").until_ready()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        assert client.images.edit(image=("a.png", png(8, 8)), prompt="").data
        with pytest.raises(openai.RateLimitError) as refused:
            client.images.edit(image=("a.png", png(300, 300)), prompt="")
        assert refused.value.code == "quota-exceeded"
        assert int(refused.value.response.headers["retry-after"]) >= 1
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            client.images.edit(image=("a.png", png(8, 8)), prompt="")
        assert unknown.value.code == "invalid_api_key"


def test_a_client_that_leaves_takes_its_photos_out_of_the_queue(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, max_backlog_ms=10_000_000).until_ready()
    files = [("image", (f"{n}.png", png(200, 200 + 16 * n))) for n in range(8)]
    request = server.client.build_request("POST", PATH, files=files)
    head = "".join(f"{name}: {request.headers[name]}\r\n" for name in ("Host", "Content-Type", "Content-Length"))
    with server.holding():
        with connect(server.url) as leaving:
            leaving.sendall(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            server.until(lambda: server.metric("promptir_queue_tiles") == len(files) - 1)  # and one runs
        server.until(lambda: server.client.get("/v1/scheduler").json()["buckets"] == [])
    server.until(lambda: server.metric("promptir_upload_bytes") == 0)
