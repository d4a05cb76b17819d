"""Images through `/v2` with the real `tritonclient`: every datatype, every form, the pixels of `POST /restore`."""

import base64
from typing import Any

import cv2
import numpy as np
import pytest
from tritonclient.http import InferRequestedOutput

CLIENTS = 8


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_a_tensor_is_restored_to_the_pixels_of_the_same_file(
    datatype: str, binary_in: bool, binary_out: bool, network: Any, triton: Any, tensor: Any, pixels: Any, restored: Any
) -> None:
    images = pixels(2, 19, 27, seed=1)
    given = images if datatype == "UINT8" else (images / 255).astype(np.float32)
    wanted = [InferRequestedOutput("restored", binary_data=binary_out)]
    answer = triton(network).infer("promptir", tensor(given, datatype, binary_in), outputs=wanted)
    found = answer.as_numpy("restored")
    assert (found.dtype, found.shape) == (given.dtype, images.shape)
    expected = restored(network, images)
    np.testing.assert_array_equal(found if datatype == "UINT8" else np.rint(found * 255), expected)
    assert not np.array_equal(expected, images)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_files_are_answered_with_files(
    shape: tuple[int, ...], network: Any, triton: Any, tensor: Any, pixels: Any, file_of: Any
) -> None:
    files = [file_of(pixels(1, *size, seed=2)[0]) for size in ((16, 24), (9, 31))]
    expected = [network.client.post("/restore", content=file).content for file in files]
    answer = triton(network).infer("promptir", tensor(np.array(files, object).reshape(shape), "BYTES"))
    assert [bytes(file) for file in answer.as_numpy("restored").reshape(-1)] == expected
    text = np.array([base64.b64encode(file) for file in files], object).reshape(shape)
    wanted = [InferRequestedOutput("restored", binary_data=False)]
    answer = triton(network).infer("promptir", tensor(text, "BYTES", binary=False), outputs=wanted)
    assert answer.get_response()["outputs"][0]["parameters"] == {"content_type": "base64"}
    assert [base64.b64decode(file) for file in answer.as_numpy("restored").reshape(-1)] == expected


def test_files_are_written_as_a_parameter_says(
    server: Any, triton: Any, tensor: Any, pixels: Any, file_of: Any
) -> None:
    file = np.array([file_of(pixels(1, 8, 8)[0])], object)
    answer = triton(server).infer("promptir-file", tensor(file, "BYTES"), parameters={"format": "jpeg", "quality": 80})
    assert bytes(answer.as_numpy("restored")[0]).startswith(b"\xff\xd8\xff")


def test_what_answers_lack_of_the_files_is_said(
    both: Any, triton: Any, tensor: Any, triton_rpc: Any, rpc_tensor: Any
) -> None:
    deep = cv2.imencode(".png", np.full((8, 8, 3), 12345, np.uint16))[1].tobytes()
    files, asked = np.array([deep], object), {"format": "jpeg"}
    answer = triton(both).infer("promptir-file", tensor(files, "BYTES"), parameters=asked).get_response()
    assert answer["parameters"] == {"mode": "whole", "dropped": "bit-depth"}
    answer = triton_rpc(both).infer("promptir-file", rpc_tensor(files, "BYTES"), parameters=asked).get_response()
    assert answer.parameters["dropped"].string_param == "bit-depth"


def test_strength_blends_what_was_sent(network: Any, triton: Any, tensor: Any, pixels: Any) -> None:
    images = pixels(1, 16, 16, seed=3)
    answer = triton(network).infer("promptir", tensor(images, "UINT8"), parameters={"strength": "0"})
    np.testing.assert_array_equal(answer.as_numpy("restored"), images)


def test_a_large_image_is_tiled_and_says_so(start: Any, triton: Any, tensor: Any, pixels: Any) -> None:
    server = start(max_whole_pixels=64 * 64).until_ready()
    images = pixels(2, 100, 130, seed=4)
    answer = triton(server).infer("promptir", tensor(images, "UINT8"))
    assert answer.get_response()["parameters"] == {"mode": "tiled"}
    np.testing.assert_array_equal(answer.as_numpy("restored"), images)  # the simulated network changes nothing
    floats = (images / 255).astype(np.float32)
    answer = triton(server).infer("promptir", tensor(floats, "FP32"))
    np.testing.assert_allclose(answer.as_numpy("restored"), floats, atol=1e-6)


def test_large_files_of_a_request_do_not_refuse_each_other(
    start: Any, triton: Any, tensor: Any, pixels: Any, file_of: Any, pixels_of: Any
) -> None:
    server = start(max_whole_pixels=256 * 256, max_queued_pixels=2**20).until_ready()
    images = [pixels(1, height, 1100, seed=height)[0] for height in (1000, 64, 1100)]
    answer = triton(server).infer("promptir", tensor(np.array([file_of(each) for each in images], object), "BYTES"))
    for found, image in zip(answer.as_numpy("restored"), images, strict=True):
        np.testing.assert_array_equal(pixels_of(bytes(found)), image)


def test_the_images_of_a_tensor_share_a_run(start: Any, triton: Any, tensor: Any, pixels: Any) -> None:
    client = triton(start().until_ready())
    client.infer("promptir", tensor(pixels(8, 16, 16), "UINT8"))
    counts = client.get_inference_statistics("promptir", "1")["model_stats"][0]
    assert counts["inference_count"] == 8
    assert counts["execution_count"] < 8
    assert counts["inference_stats"]["success"]["count"] == 1


def test_requests_that_wait_together_each_get_their_own(server: Any, triton: Any, tensor: Any, pixels: Any) -> None:
    client = triton(server, concurrency=CLIENTS)
    sent = [pixels(1 + seed % 3, 8 + seed, 24, seed=seed) for seed in range(4 * CLIENTS)]
    asked = [client.async_infer("promptir", tensor(each, "UINT8"), request_id=str(at)) for at, each in enumerate(sent)]
    for at, (each, images) in enumerate(zip(asked, sent, strict=True)):
        answer = each.get_result()
        assert answer.get_response()["id"] == str(at)
        np.testing.assert_array_equal(answer.as_numpy("restored"), images)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_may_be_compressed(algorithm: str, server: Any, triton: Any, tensor: Any, pixels: Any) -> None:
    images = pixels(1, 30, 40)
    answer = triton(server).infer(
        "promptir",
        tensor(images, "UINT8"),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(answer.as_numpy("restored"), images)


def test_a_client_without_a_library_sends_plain_json(server: Any) -> None:
    image = [[[0, 1], [2, 3]]] * 3
    asked = {"inputs": [{"name": "image", "shape": [1, 3, 2, 2], "datatype": "UINT8", "data": [image]}], "id": "a"}
    answer = server.client.post("/v2/models/promptir/versions/1/infer", json=asked)
    assert (answer.status_code, answer.headers.get("content-encoding")) == (200, None)  # httpx offers all it can undo
    assert answer.json() == {
        "model_name": "promptir",
        "model_version": "1",
        "id": "a",
        "parameters": {"mode": "whole"},
        "outputs": [
            {"name": "restored", "datatype": "UINT8", "shape": [1, 3, 2, 2], "data": [0, 1, 2, 3] * 3},
        ],
    }
    assert {"queue", "inference", "total"} <= {
        part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")
    }
