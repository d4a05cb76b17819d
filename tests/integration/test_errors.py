"""Every error of the table, through a real server."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from problems import assert_problem
from raw_http import connect, upload_head

Image = Callable[..., bytes]
PNG = {"Content-Type": "image/png"}
MAX_BYTES = 50_000


@pytest.fixture(scope="module")
def strict(session_start: Any) -> Any:
    """A server with small limits."""
    limits = {"max_upload_bytes": MAX_BYTES, "max_image_pixels": 10_000, "max_image_side": 500}
    return session_start(**limits).until_ready()


@pytest.fixture(scope="module")
def with_jobs(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that keeps jobs."""
    return session_start(jobs_folder=tmp_path_factory.mktemp("jobs")).until_ready()


def chunks_of(data: bytes) -> Iterator[bytes]:
    """Without a Content-Length."""
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


def test_an_empty_body_is_400(server: Any) -> None:
    for body in ({}, {"content": b"", "headers": PNG}, {"content": chunks_of(b""), "headers": PNG}):
        assert_problem(server.client.post("/restore", **body), 400, "empty-upload")
    assert_problem(server.client.post("/restore", files={"file": ("a.png", b"")}), 400, "empty-upload")
    strange = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--x--\r\n'
    assert_problem(server.client.post("/restore", content=form, headers=strange), 400, "empty-upload")


def test_a_form_without_the_file_is_400(server: Any, png: Image) -> None:
    for form in ({"files": {"image": ("a.png", png(8, 8))}}, {"files": {"file": (None, b"text")}}):
        document = assert_problem(server.client.post("/restore", **form), 400, "invalid-request")
        assert document["expected_field"] == "file"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"anything"),
        ("multipart/form-data; boundary=x", b"no boundary in here"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x; charset=undefined", b'--x\r\nContent-Disposition: form-data; name="f"'),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
        ),
    ],
)
def test_a_broken_form_is_400(content_type: str, body: bytes, server: Any) -> None:
    response = server.client.post("/restore", content=body, headers={"Content-Type": content_type})
    assert_problem(response, 400, "invalid-request")


def test_two_files_are_400(server: Any, png: Image) -> None:
    files = [("file", ("a.png", png(8, 8))), ("file", ("b.png", png(8, 8)))]
    assert_problem(server.client.post("/restore", files=files), 400, "invalid-request")


def test_bad_parameters_are_400_and_named(server: Any, png: Image) -> None:
    for parameters, headers, name in (
        ({"format": "gif"}, {}, "format"),
        ({"quality": 0}, {}, "quality"),
        ({"quality": "best"}, {}, "quality"),
        ({}, {"X-Deadline-Ms": "-5"}, "X-Deadline-Ms"),
        ({}, {"X-Deadline-Ms": "soon"}, "X-Deadline-Ms"),
        ({}, {"X-Priority": "urgent"}, "X-Priority"),
    ):
        response = server.client.post("/restore", params=parameters, content=png(8, 8), headers=PNG | headers)
        document = assert_problem(response, 400, "invalid-request")
        assert document["errors"][0]["name"].lower() == name.lower()


def test_too_many_bytes_are_413_however_they_are_sent(strict: Any) -> None:
    large = b"\x89PNG\r\n\x1a\n" + bytes(3 * MAX_BYTES)
    for body in (
        {"content": large, "headers": PNG},
        {"content": chunks_of(large), "headers": PNG},
        {"files": {"file": ("large.png", large)}},
        {"files": {"file": ("just.png", large[: MAX_BYTES + 1])}},
    ):
        document = assert_problem(strict.client.post("/restore", **body), 413, "image-too-large")
        assert document["max_upload_bytes"] == MAX_BYTES
    assert strict.client.get("/readyz").status_code == 200


def test_a_declared_length_over_the_limit_is_413_before_a_byte_is_sent(strict: Any) -> None:
    with connect(strict.url) as connection:
        connection.sendall(upload_head(10 * MAX_BYTES))
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def png_that_says(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height", "limit"), [(200, 200, "max_image_pixels"), (501, 1, "max_image_side")])
def test_too_many_pixels_or_too_long_a_side_is_413(width: int, height: int, limit: str, strict: Any) -> None:
    response = strict.client.post("/restore", content=png_that_says(width, height), headers=PNG)
    document = assert_problem(response, 413, "image-too-large")
    assert limit in document
    assert f"{width} x {height}" in document["detail"]


def animated() -> bytes:
    file = io.BytesIO()
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


@pytest.mark.parametrize("body", [b"hello", b"GIF89a" + bytes(99), bytes(1000), b"<svg/>", animated()])
def test_what_is_no_still_image_is_415(body: bytes, server: Any) -> None:
    document = assert_problem(server.client.post("/restore", content=body, headers=PNG), 415, "unsupported-image")
    if not body.startswith(b"RIFF"):
        assert "PNG" in document["allowed_formats"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "*/*"])
def test_what_is_no_image_is_415_whatever_it_is_called(content_type: str, server: Any, png: Image) -> None:
    response = server.client.post("/restore", content=b'{"image": 1}', headers={"Content-Type": content_type})
    assert "PNG" in assert_problem(response, 415, "unsupported-image")["allowed_formats"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_curl_took_the_line_breaks_from_is_told_how_to_be_sent(kind: str, server: Any) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8)).save(file, kind)
    types = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.client.post("/restore", content=file.getvalue(), headers=types).status_code == 200
    stripped = file.getvalue().translate(None, b"\r\n\0")
    response = server.client.post("/restore", content=stripped, headers=types)
    assert "-F file=@" in response.json()["detail"]
    response = server.client.post("/restore", content=stripped, headers=PNG)
    assert "curl" not in response.json()["detail"]


@pytest.mark.parametrize("path", ["/restore", "/v1/jobs"])
def test_a_content_encoding_that_is_not_read_is_named(path: str, with_jobs: Any, png: Image) -> None:
    for encoding in ("br", "zstd"):
        response = with_jobs.client.post(path, content=png(8, 8), headers={"Content-Encoding": encoding})
        document = assert_problem(response, 415, "unsupported-encoding")
        assert encoding in document["detail"]
        assert "gzip" in document["encodings"]


@pytest.mark.parametrize("path", ["/restore", "/v1/jobs"])
def test_broken_compression_is_400_and_a_bomb_413(path: str, with_jobs: Any, png: Image) -> None:
    for content, status, slug in (
        (png(8, 8), 400, "invalid-request"),
        (gzip.compress(png(64, 64))[:-20], 400, "invalid-request"),
        (gzip.compress(b"II*\0" + bytes(65 * 2**20), 1), 413, "image-too-large"),
    ):
        response = with_jobs.client.post(path, content=content, headers={"Content-Encoding": "gzip"})
        assert_problem(response, status, slug)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_image_is_422(suffix: str, share: float, server: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    response = server.client.post("/restore", content=data[: int(len(data) * share)], headers=PNG)
    assert_problem(response, 422, "undecodable-image")


def test_bad_uploads_leave_nothing_in_the_log_but_their_own_lines(start: Any, png: Image) -> None:
    server = start().until_ready()
    bodies = [
        png(64, 64)[:-30],
        b"\x89PNG\r\n\x1a\n",
        b"II*\0" + bytes(40),
        b"II*\0\x08\0\0\0\xff\xff",
        b"\xff\xd8\xff",
    ]
    for body in bodies:
        assert 400 <= server.client.post("/restore", content=body, headers=PNG).status_code < 500
    server.terminate()
    assert server.wait() == 0
    assert [line["message"] for line in server.lines if line["message"] != "request"] == [
        "listening",
        "ready",
        "draining",
        "stopped",
    ]


def test_a_full_queue_is_429_and_says_when_to_come_back(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=700, max_batch=1, max_backlog_ms=1000).until_ready()
    with ThreadPoolExecutor(6) as senders:
        # As large as the warm-up runs, so that the cost is known.
        responses = list(
            senders.map(lambda seed: server.client.post("/restore", content=png(64, 64, seed=seed)), range(6))
        )
    refused = [response for response in responses if response.status_code != 200]
    assert 1 <= len(refused) < 6
    for response in refused:
        document = assert_problem(response, 429, "queue-full")
        assert int(response.headers["retry-after"]) == document["retry_after_s"] >= 1
    assert server.metric('promptir_refusals_total{reason="queue-full"}') == len(refused)


def test_a_deadline_that_what_waits_ahead_would_break_is_429_and_one_that_no_run_can_keep_is_504(
    start: Any, png: Image
) -> None:
    server = start(simulated_base_ms=800, max_batch=1).until_ready()
    data, other = png(64, 64), png(64, 64, seed=1)  # as large as the warm-up runs, so that the cost is known
    with ThreadPoolExecutor(2) as senders:
        earlier = [senders.submit(server.client.post, "/restore", content=content) for content in (data, other)]
        server.until(lambda: server.metric("promptir_queue_tiles") == 1)  # one runs, one waits
        later = server.client.post("/restore", content=data, headers={"X-Deadline-Ms": "1000"})
        never = server.client.post("/restore", content=data, headers={"X-Deadline-Ms": "50"})
        assert [response.result().status_code for response in earlier] == [200, 200]
    document = assert_problem(later, 429, "deadline-unmet")
    assert int(later.headers["retry-after"]) == document["retry_after_s"] >= 1
    assert_problem(never, 504, "deadline-exceeded")


def test_an_unknown_path_is_404_and_a_wrong_method_405(server: Any) -> None:
    assert_problem(server.client.get("/nothing/here"), 404, "not-found")
    response = server.client.get("/restore")
    assert assert_problem(response, 405, "method-not-allowed")["allowed_methods"] == ["POST"]
    assert response.headers["allow"] == "POST"
