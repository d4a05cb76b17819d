"""What `/v2` does with requests and answers that are small on the wire and large in memory."""

import base64
import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest

INFER = "/v2/models/promptir/infer"
FILES = "/v2/models/promptir-file/infer"
MANY = 300_000
TENSOR = '{"name":"image","shape":[1,3,1,1],"datatype":"FP32","data":%s}'

LARGE = {
    "inputs that are none": '{"inputs":[' + ",".join(["1"] * MANY) + "]}",
    "inputs": '{"inputs":[' + ",".join(['{"name":"","shape":[1],"datatype":""}'] * 40_000) + "]}",
    "outputs": '{"inputs":[],"outputs":[' + ",".join(['{"name":""}'] * 12_000) + "]}",
    "dimensions that are none": '{"inputs":[{"name":"image","datatype":"FP32","shape":[' + '"",' * MANY + '""]}]}',
    "dimensions": '{"inputs":[{"name":"image","datatype":"FP32","shape":[' + "9," * MANY + "9]}]}",
    "lists in the data": '{"inputs":[' + TENSOR % ("[" + "[]," * MANY + "[]]") + "]}",
    "lists in the parameters": '{"parameters":{"a":[' + "{}," * MANY + '{}]},"inputs":[]}',
    "parameters": '{"inputs":[],"parameters":{' + ",".join(f'"{at}":1' for at in range(MANY)) + "}}",
    "a deep list": '{"inputs":[' + TENSOR % ("[" * MANY + "]" * MANY) + "]}",
    "a name": '{"inputs":[{"name":"' + "x" * 2**21 + '","shape":[1],"datatype":"FP32"}]}',
    "a datatype": '{"inputs":[{"name":"image","shape":[1],"datatype":"' + "x" * 2**21 + '"}]}',
    "texts for numbers": '{"inputs":[' + TENSOR % ('["' + "x" * 2**21 + '",1,1]') + "]}",
    "a number of many digits": '{"inputs":[' + TENSOR % ("[" + "1" * 2**21 + ",1,1]") + "]}",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_json_of_many_faults_is_refused_by_the_first_of_them(text: str, server: Any) -> None:
    answer = server.client.post(INFER, content=text.encode())
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert len(answer.content) < 2000
    assert server.metric("promptir_upload_bytes") == 0


def test_the_images_of_a_request_have_together_what_one_may_have(start: Any, png: Any) -> None:
    server = start(max_image_pixels=10_000).until_ready()
    file, count = png(60, 60), 3
    text = json.dumps(
        {"inputs": [{"name": "image", "shape": [count], "datatype": "BYTES", "data": [_text(file)] * count}]}
    )
    answer = server.client.post(FILES, content=text)
    assert (answer.status_code, "10800 pixels together; at most 10000" in answer.text) == (413, True)
    size = 3 * 3 * 60 * 60
    tensor = {"name": "image", "shape": [3, 3, 60, 60], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]})
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = server.client.post(INFER, content=text.encode() + bytes(size), headers=headers)
    assert answer.status_code == 413


def test_results_count_as_uploads_until_they_are_sent(start: Any) -> None:
    server = start(max_upload_bytes=2**19, max_uploads_bytes=2**19).until_ready()
    for side, status in ((300, 429), (200, 200), (200, 200), (200, 200)):
        content, headers = _binary(np.zeros((1, 3, side, side), np.uint8))
        answer = server.client.post(INFER, content=content, headers=headers)
        assert answer.status_code == status, answer.text[:200]
    server.until(lambda: server.metric("promptir_upload_bytes") == 0)


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "base64"])
def test_an_answer_of_many_pieces_is_whole(is_binary: bool, encoding: str, server: Any, png: Any, samples: Any) -> None:
    files = [png(700, 701, seed=1), png(3, 2, seed=2), png(701, 700, seed=3)]  # noise: 1.5 MB each as PNG
    text = json.dumps(
        {
            "inputs": [{"name": "image", "shape": [3], "datatype": "BYTES", "data": list(map(_text, files))}],
            "parameters": {"binary_data_output": is_binary},
        }
    )
    answer = server.client.post(FILES, content=text, headers={"Accept-Encoding": encoding})
    assert answer.status_code == 200
    if encoding == "identity":
        assert int(answer.headers["content-length"]) == len(answer.content)
    else:
        assert answer.headers["content-encoding"] == encoding
    if is_binary:
        length = int(answer.headers["inference-header-content-length"])
        output = json.loads(answer.content[:length])["outputs"][0]
        assert output["parameters"]["binary_data_size"] == len(answer.content) - length
        found, at = [], length
        while at < len(answer.content):
            (size,) = struct.unpack_from("<I", answer.content, at)
            found.append(answer.content[at + 4 : at + 4 + size])
            at += 4 + size
    else:
        found = [base64.b64decode(each, validate=True) for each in answer.json()["outputs"][0]["data"]]
    for sent, got in zip(files, found, strict=True):
        np.testing.assert_array_equal(samples(got), samples(sent))


def test_numbers_in_json_are_whole_too(server: Any) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (1, 3, 300, 400), np.uint8)
    tensor = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.ravel().tolist()}
    answer = server.client.post(
        INFER, content=gzip.compress(json.dumps({"inputs": [tensor]}).encode()), headers={"Content-Encoding": "gzip"}
    )
    assert answer.json()["outputs"][0]["data"] == pixels.ravel().tolist()


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("GET", "systemsharedmemory/status", "no memory is shared"),
        ("POST", "systemsharedmemory/region/a/register", "no memory is shared"),
        ("POST", "systemsharedmemory/unregister", "no memory is shared"),
        ("GET", "cudasharedmemory/region/a/status", "no memory is shared"),
        ("POST", "cudasharedmemory/region/a/unregister", "no memory is shared"),
        ("POST", "repository/models/promptir/load", "not loaded or unloaded"),
        ("POST", "repository/models/promptir/unload", "not loaded or unloaded"),
        ("GET", "trace/setting", "when the server starts"),
        ("POST", "logging", "when the server starts"),
    ],
)
def test_what_is_not_offered_is_said_in_a_sentence(method: str, path: str, word: str, server: Any) -> None:
    answer = server.client.request(method, f"/v2/{path}")
    assert (answer.status_code, list(answer.json())) == (501, ["error"])
    assert word in answer.json()["error"]


@pytest.mark.parametrize("parameter", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"])
def test_a_tensor_in_shared_memory_is_refused(parameter: str, server: Any) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {parameter: 1}}
    answer = server.client.post(FILES, json={"inputs": [tensor]})
    assert (answer.status_code, "not shared in memory" in answer.json()["error"]) == (400, True)


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode()


def _binary(pixels: np.ndarray) -> tuple[bytes, dict[str, str]]:
    size = {"binary_data_size": pixels.nbytes}
    tensor = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "parameters": size}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return text + pixels.tobytes(), {"Inference-Header-Content-Length": str(len(text))}
