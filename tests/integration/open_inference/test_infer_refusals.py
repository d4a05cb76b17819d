"""What `/v2` refuses: with the right status, in the protocol's form, and as early as it can."""

import gzip
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferRequestedOutput
from tritonclient.utils import InferenceServerException

INFER = "/v2/models/promptir/infer"
PIXELS = np.zeros((1, 3, 8, 8), np.uint8)


def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as refused:
        call()
    return refused.value.status(), refused.value.message()


@pytest.mark.parametrize(
    ("array", "datatype", "status", "word"),
    [
        (np.zeros((1, 4, 8, 8), np.uint8), "UINT8", "400", "[N, 3, H, W]"),
        (np.zeros((3, 8, 8), np.uint8), "UINT8", "400", "[N, 3, H, W]"),
        (np.zeros((65, 3, 2, 2), np.uint8), "UINT8", "400", "at most 64"),
        (np.zeros((1, 3, 8, 8), np.int32), "INT32", "400", "FP32, UINT8, BYTES"),
        (np.full((1, 3, 8, 8), 255, np.float32), "FP32", "400", "divide bytes by 255"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), "FP32", "400", "divide bytes by 255"),
        (np.zeros((1, 3, 1, 16_385), np.uint8), "UINT8", "413", "16384"),
        (np.array([b"no image"], object), "BYTES", "415", "not an image"),
        (np.array([b"\x89PNG\r\n\x1a\n" + bytes(40)], object), "BYTES", "422", "PNG"),
        (np.array([b""], object), "BYTES", "400", "empty"),
    ],
)
def test_a_tensor_that_cannot_be_restored(
    array: np.ndarray, datatype: str, status: str, word: str, server: Any, triton: Any, tensor: Any
) -> None:
    found, message = refusal(lambda: triton(server).infer("promptir", tensor(array, datatype)))
    assert found == status, message
    assert word in message


@pytest.mark.parametrize(
    ("asked", "status", "word"),
    [
        ({"model_name": "other"}, "404", "promptir-uint8"),
        ({"model_version": "2"}, "404", "it has 1"),
        ({"sequence_id": 7, "sequence_start": True}, "400", "no state"),
        ({"outputs": [InferRequestedOutput("restored", class_count=3)]}, "400", "no classes"),
        ({"outputs": [InferRequestedOutput("other")]}, "400", "one output, restored"),
        ({"parameters": {"strength": 2}}, "400", "strength"),
        ({"parameters": {"tile": 63}}, "400", "tile must be a multiple"),
        ({"timeout": 1}, "504", "deadline"),
    ],
)
def test_a_request_that_asks_for_what_there_is_not(
    asked: dict[str, Any], status: str, word: str, server: Any, triton: Any, tensor: Any
) -> None:
    request = {"model_name": "promptir", "inputs": tensor(PIXELS, "UINT8")} | asked
    found, message = refusal(lambda: triton(server).infer(**request))
    assert found == status, message
    assert word in message


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[" + b"1," * 600_000 + b"1]", "binary data"),
        ({"inputs": []}, "one input, image"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["YQ=="]}]}, "one input, image"),
        ({"inputs": [{"name": "image", "shape": [2**70], "datatype": "BYTES"}]}, "shape"),
        ({"inputs": [{"name": "image", "shape": [1, 3, 2**40, 2**40], "datatype": "UINT8"}]}, "16384"),
        ({"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "UINT8"}]}, "3 values"),
        ({"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "UINT8", "data": [1, 2, 256]}]}, "0..255"),
        ({"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "UINT8", "data": [1, 2, 0.5]}]}, "whole"),
        ({"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "FP32", "data": [1, [2], 3]}]}, "unevenly"),
        (
            {"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "FP32", "data": ["0", "0", "0"]}]},
            "numbers",
        ),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["?"]}]}, "base64"),
        (
            {
                "inputs": [
                    {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"shared_memory_region": "a"}}
                ]
            },
            "not shared in memory",
        ),
    ],
)
def test_json_that_is_no_request(body: Any, word: str, server: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = server.client.post(INFER, content=content)
    assert answer.status_code in (400, 413)
    assert list(answer.json()) == ["error"]
    assert word in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "content", "status", "word"),
    [
        ({"Inference-Header-Content-Length": "x"}, b"{}", 400, "number of bytes"),
        ({"Inference-Header-Content-Length": "99"}, b"{}", 400, "no JSON of 99"),
        ({"Content-Encoding": "br"}, b"{}", 415, "gzip and deflate"),
        ({"Content-Encoding": "gzip"}, b"{}" * 20, 400, "no gzip"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}" * 99, mtime=0)[:-9], 400, "cut off"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(65 * 2**20), mtime=0), 413, "inflates"),
    ],
)
def test_headers_that_do_not_fit(headers: dict[str, str], content: bytes, status: int, word: str, server: Any) -> None:
    answer = server.client.post(INFER, content=content, headers=headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert word in answer.json()["error"]
    assert server.metric("promptir_upload_bytes") == 0


@pytest.mark.parametrize(
    ("shape", "length", "status"),
    [([1, 3, 20_000, 8], 480_000, b"413"), ([1, 3, 2000, 2000], 1, b"400"), ([1, 4, 8, 8], 256, b"400")],
    ids=["too large", "another size", "no image"],
)
def test_a_tensor_is_refused_by_its_shape_while_its_data_is_not_sent(
    shape: list[int], length: int, status: bytes, server: Any
) -> None:
    tensor = {"name": "image", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": length}}
    text = json.dumps({"inputs": [tensor]}).encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text) + 12 * 2**20}\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n\r\n"
    )
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        connection.sendall(head.encode() + text)
        assert connection.recv(12).split()[1] == status


@pytest.mark.parametrize("data", [[1, 2, 3], []])
def test_data_that_comes_in_the_json_and_behind_it_is_refused_by_both_names(data: list[int], server: Any) -> None:
    size = {"binary_data_size": 3}
    tensor = {"name": "image", "shape": [1, 3, 1, 1], "datatype": "UINT8", "parameters": size, "data": data}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = server.client.post(INFER, content=text + bytes(3), headers=headers)
    assert answer.status_code == 400
    assert answer.json() == {"error": "image has both data and binary_data_size: send it in the JSON or behind it."}


def test_an_overload_is_told_with_the_time_to_come_back(
    start: Any, triton: Any, tensor: Any, pixels: Any, tmp_path: Path
) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, max_backlog_ms=0.1).until_ready()
    with ThreadPoolExecutor(1) as sender:
        with server.holding():
            first = sender.submit(server.client.post, "/restore", content=_png())
            server.until(server.running)
            text = json.dumps(
                {"inputs": [{"name": "image", "shape": [1, 3, 1, 1], "datatype": "UINT8", "data": [1, 2, 3]}]}
            )
            answer = server.client.post(INFER, content=text)
            assert answer.status_code == 429, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert list(answer.json()) == ["error"]
            found, _ = refusal(lambda: triton(server).infer("promptir", tensor(pixels(2, 8, 8), "UINT8")))
            assert found == "429"
        assert first.result().status_code == 200


def test_a_client_that_leaves_takes_its_jobs_along(start: Any, pixels: Any, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1).until_ready()
    images = pixels(3, 8, 8)
    size = {"binary_data_size": images.nbytes}
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "parameters": size}
    text = json.dumps({"inputs": [tensor]}).encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text) + images.nbytes}\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n\r\n"
    )
    with server.holding():
        with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
            connection.sendall(head.encode() + text + images.tobytes())
            server.until(lambda: server.metric("promptir_queue_tiles") == 2)  # and one runs
        server.until(lambda: server.metric("promptir_queue_tiles") == 0)
    server.until(lambda: server.metric('promptir_requests_total{outcome="client-closed",status="499"}') == 1)
    assert server.metric("promptir_upload_bytes") == 0


def _png() -> bytes:
    import cv2

    return cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
