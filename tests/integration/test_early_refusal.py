"""Refusals before the body is there: what a client sees that is still sending."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from raw_http import connect, read_answer, received, upload_head

from server.settings import LimitSettings

Image = Callable[..., bytes]
# More than all socket buffers on the way: sending blocks unless somebody reads.
LARGE = 24 * 2**20
SMALL = 100 * 1024


FORM_START = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_a_large_image_is_refused_from_its_first_bytes_while_the_rest_is_not_sent(
    form: bool, server: Any, png: Image
) -> None:
    huge = bytearray(png(8, 8)[:64])
    huge[16:20] = huge[20:24] = (10_000).to_bytes(4, "big")
    kind = "Content-Type: multipart/form-data; boundary=x" if form else "Content-Type: image/png"
    with closing(connect(server.url)) as connection:
        connection.sendall(upload_head(LARGE, kind) + (FORM_START if form else b"") + huge)
        status, headers, problem = read_answer(connection)
    assert (status, headers["connection"]) == (413, "close")
    assert problem["max_image_pixels"] == LimitSettings().max_image_pixels


@pytest.mark.parametrize("parts", [1, 2])
def test_a_file_gets_the_same_refusal_whole_and_in_parts(parts: int, server: Any, png: Image) -> None:
    huge = bytearray(png(8, 8)[:64])
    huge[16:20] = huge[20:24] = (9000).to_bytes(4, "big")
    for data, expected in ((bytes(huge) + bytes(400), 413), (png(40, 40)[:-8], 422), (b"II*\0" + bytes(400), 422)):
        with closing(connect(server.url)) as connection:
            connection.sendall(upload_head(len(data), "Content-Type: image/png"))
            step = -(-len(data) // parts)
            for start in range(0, len(data), step):
                connection.sendall(data[start : start + step])
                time.sleep(0.1)  # so that it is read before the next part
            assert read_answer(connection)[0] == expected


def test_what_is_no_image_is_refused_from_its_first_bytes(server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(upload_head(LARGE, "Content-Type: image/png") + b"GIF89a" + bytes(50))
        assert read_answer(connection)[0] == 415


@pytest.mark.parametrize("path", ["/restore", "/v1/jobs", "/v2/models/promptir-file/infer"])
def test_urllib_which_reads_nothing_before_all_is_sent_gets_the_413(path: str, start: Any, tmp_path: Path) -> None:
    limit = 2**20
    server = start(max_upload_bytes=limit, jobs_folder=tmp_path).until_ready()
    body = b"II*\0" + bytes(7 * limit)
    request = urllib.request.Request(server.url + path, body, {"Content-Type": "image/tiff"})  # noqa: S310 - ours
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)  # noqa: S310
    with caught.value as answer:
        assert answer.code == 413
        assert str(limit) in answer.read().decode()


def test_a_client_that_sends_all_before_it_listens_gets_its_refusal_and_no_reset(server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(upload_head(LARGE, "Content-Type: image/png"))
        for _ in range(LARGE // SMALL):
            connection.sendall(bytes(SMALL))
        connection.sendall(bytes(LARGE % SMALL))
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (415, "close")
        assert connection.recv(1) == b""


def test_after_the_refusal_of_a_small_upload_the_connection_serves_on(server: Any, png: Image) -> None:
    data = png(16, 16)
    with closing(connect(server.url)) as connection:
        connection.sendall(upload_head(SMALL, "Content-Type: image/png") + bytes(50))
        status, headers, _ = read_answer(connection)
        assert (status, headers.get("connection")) == (415, None)
        connection.sendall(bytes(SMALL - 50) + upload_head(len(data), "Content-Type: image/png") + data)
        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_upload_is_refused_as_well(server: Any) -> None:
    with closing(connect(server.url)) as connection:
        start = "POST /restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n"
        connection.sendall(start.encode() + b"40\r\n" + bytes(64) + b"\r\n")
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (415, "close")


def test_a_full_server_refuses_from_the_header_of_the_image(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=1500, max_batch=1, max_backlog_ms=1600).until_ready()
    data = png(64, 64)
    waiting = [connect(server.url) for _ in range(4)]
    try:
        for seed, connection in enumerate(waiting):  # equal ones would share a run
            upload = png(64, 64, seed=seed)
            connection.sendall(upload_head(len(upload)) + upload)
        refused = 'promptir_refusals_total{reason="queue-full"}'
        server.until(lambda: server.metric(refused) >= 1)  # the others run and wait
        with closing(connect(server.url)) as late:
            late.sendall(upload_head(LARGE, "Content-Type: image/png") + data[:64])
            status, headers, problem = read_answer(late)
        assert status == 429
        assert int(headers["retry-after"]) == problem["retry_after_s"] >= 1
        assert headers["connection"] == "close"
    finally:
        for connection in waiting:
            connection.close()


def test_uploads_beyond_the_room_of_all_are_429_and_the_room_comes_back(start: Any, png: Image) -> None:
    limit = 200_000
    server = start(max_upload_bytes=limit, max_uploads_bytes=limit).until_ready()
    data = png(240, 240)
    assert limit / 2 < len(data) < limit
    part = data[:-50]
    with closing(connect(server.url)) as slow:
        slow.sendall(upload_head(len(data), "Content-Type: image/png") + part)
        server.until(lambda: server.metric("promptir_upload_bytes") == len(part))
        refused = server.client.post("/restore", content=data)
        assert (refused.status_code, refused.json()["max_uploads_bytes"]) == (429, limit)
        assert server.metric('promptir_refusals_total{reason="queue-full"}') == 1
        slow.sendall(data[-50:])
        assert received(slow).startswith(b"HTTP/1.1 200 ")
    assert server.client.post("/restore", content=data).status_code == 200
    with closing(connect(server.url)) as leaving:
        leaving.sendall(upload_head(len(data), "Content-Type: image/png") + part)
        server.until(lambda: server.metric("promptir_upload_bytes") == len(part))
    server.until(lambda: server.metric("promptir_upload_bytes") == 0)
    assert server.client.post("/restore", content=data).status_code == 200


def test_an_upload_that_stalls_counts_as_backlog_for_a_moment_only(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=1000, max_batch=1).until_ready()
    assert server.client.post("/restore", content=png(64, 64)).status_code == 200

    with closing(connect(server.url)) as stalled:
        stalled.sendall(upload_head(LARGE, "Content-Type: image/png") + png(64, 64, seed=1)[:64])
        server.until(lambda: server.metric("promptir_upload_bytes") == 64)
        server.until(lambda: server.client.get("/v1/scheduler").json()["backlog_ms"] == 0)
        assert server.metric("promptir_upload_bytes") == 64  # it is still being read
