"""The protocol over gRPC with the real `tritonclient`: the answers, limits and errors that HTTP has."""

import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

SERVICE = "/inference.GRPCInferenceService"


def code_of(call: Any) -> str:
    with pytest.raises(InferenceServerException) as refused:
        call()
    return str(refused.value.status())


@pytest.mark.parametrize("datatype", ["UINT8", "FP32", "BYTES"])
def test_a_tensor_is_restored_to_the_pixels_of_the_same_file(
    datatype: str,
    network: Any,
    triton_rpc: Any,
    rpc_tensor: Any,
    pixels: Any,
    restored: Any,
    file_of: Any,
    pixels_of: Any,
) -> None:
    images = pixels(2, 19, 27, seed=5)
    expected = restored(network, images)
    given = {
        "UINT8": images,
        "FP32": (images / 255).astype(np.float32),
        "BYTES": np.array([file_of(image) for image in images], object),
    }[datatype]
    answer = triton_rpc(network).infer("promptir", rpc_tensor(given, datatype), request_id="7")
    assert answer.get_response().id == "7"
    assert answer.get_response().parameters["mode"].string_param == "whole"
    found = answer.as_numpy("restored")
    if datatype == "BYTES":
        found = np.stack([pixels_of(bytes(file)) for file in found])
    if datatype == "FP32":  # a batch of two rounds in another order than two runs, so ties may fall either way
        assert np.abs(found * 255 - expected).max() < 0.501
    else:
        np.testing.assert_array_equal(found, expected)


def test_typed_contents_are_answered_with_typed_contents(both: Any, address: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="promptir")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=[1, 3, 1, 2])
    tensor.contents.fp32_contents.extend([0, 0.25, 0.5, 0.75, 1, 0])
    with grpc.insecure_channel(address(both)) as channel:
        answer = _infer(channel)(request)
    assert list(answer.outputs[0].contents.fp32_contents) == [0, 0.25, 0.5, 0.75, 1, 0]
    assert not answer.raw_output_contents


def test_a_stream_answers_each_request_and_outlives_an_error(
    both: Any, triton_rpc: Any, rpc_tensor: Any, pixels: Any
) -> None:
    client, answers = triton_rpc(both), queue.Queue[tuple[Any, Any]]()
    client.start_stream(lambda result, error: answers.put((result, error)))
    sent = [pixels(1, 8, 8 + at, seed=at) for at in range(4)]
    client.async_stream_infer("other", rpc_tensor(sent[0], "UINT8"))
    for at, images in enumerate(sent):
        client.async_stream_infer("promptir", rpc_tensor(images, "UINT8"), request_id=str(at))
    result, error = answers.get(timeout=30)
    assert result is None
    assert "no model 'other'" in str(error)
    for at, images in enumerate(sent):
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.get_response().id == str(at)
        np.testing.assert_array_equal(result.as_numpy("restored"), images)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"model_name": "other"}, "NOT_FOUND"),
        ({"model_version": "2"}, "NOT_FOUND"),
        ({"sequence_id": 7, "sequence_start": True}, "INVALID_ARGUMENT"),
        ({"parameters": {"strength": "2"}}, "INVALID_ARGUMENT"),
        ({"timeout": 1}, "DEADLINE_EXCEEDED"),
        ({"client_timeout": 0.00001}, "DEADLINE_EXCEEDED"),
        ({"compression_algorithm": "gzip"}, "UNIMPLEMENTED"),
    ],
)
def test_a_request_that_asks_for_what_there_is_not(
    asked: dict[str, Any], code: str, both: Any, triton_rpc: Any, rpc_tensor: Any, pixels: Any
) -> None:
    request = {"model_name": "promptir", "inputs": rpc_tensor(pixels(1, 8, 8), "UINT8")} | asked
    assert code_of(lambda: triton_rpc(both).infer(**request)) == f"StatusCode.{code}"


@pytest.mark.parametrize(
    ("array", "datatype", "code"),
    [
        (np.zeros((1, 3, 8, 8), np.int32), "INT32", "INVALID_ARGUMENT"),
        (np.full((1, 3, 8, 8), 255, np.float32), "FP32", "INVALID_ARGUMENT"),
        (np.zeros((1, 3, 1, 16_385), np.uint8), "UINT8", "INVALID_ARGUMENT"),
        (np.array([b"no image"], object), "BYTES", "INVALID_ARGUMENT"),
        (np.zeros((1, 3, 1500, 1500), np.uint8), "UINT8", "RESOURCE_EXHAUSTED"),  # more bytes than a message may have
    ],
)
def test_a_tensor_that_cannot_be_restored(
    array: np.ndarray, datatype: str, code: str, both: Any, triton_rpc: Any, rpc_tensor: Any
) -> None:
    assert code_of(lambda: triton_rpc(both).infer("promptir", rpc_tensor(array, datatype))) == f"StatusCode.{code}"
    assert both.metric("promptir_upload_bytes") == 0


def test_a_message_that_is_none_and_a_call_without_one(both: Any, address: Any) -> None:
    with grpc.insecure_channel(address(both)) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{SERVICE}/ModelInfer")(b"\xff\xff\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(f"{SERVICE}/ModelInfer")(iter(()))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_not_offered_is_refused_in_a_sentence(both: Any, triton_rpc: Any) -> None:
    with pytest.raises(InferenceServerException, match="no memory is shared") as refused:
        triton_rpc(both).get_system_shared_memory_status()
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


def test_an_overload_is_told_with_the_time_to_come_back(start: Any, address: Any, png: Any, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, max_backlog_ms=0.1, grpc_port=0).until_ready()
    with ThreadPoolExecutor(1) as sender, grpc.insecure_channel(address(server)) as channel:
        with server.holding():
            first = sender.submit(server.client.post, "/restore", content=png(8, 8))
            server.until(server.running)
            with pytest.raises(grpc.RpcError) as refused:
                _infer(channel)(_request(), metadata=(("x-request-id", "mine"),))
        assert first.result().status_code == 200
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = dict(refused.value.trailing_metadata())
    assert int(trailer["retry-after"]) >= 1
    assert int(trailer["grpc-retry-pushback-ms"]) >= 1000
    assert trailer["x-request-id"] == "mine"
    assert server.metric('promptir_requests_total{outcome="queue-full",status="429"}') == 1
    server.until(lambda: any(line.get("request_id") == "mine" and line["status"] == 429 for line in server.lines))


def test_a_client_that_leaves_takes_its_job_along(start: Any, address: Any, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, grpc_port=0).until_ready()
    with grpc.insecure_channel(address(server)) as channel:
        with server.holding():
            calls = [_infer(channel).future(_request(8))]
            server.until(server.running)
            calls += [_infer(channel).future(_request(side)) for side in (16, 24)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 2)
            for call in calls[1:]:
                call.cancel()
            server.until(lambda: server.metric("promptir_queue_tiles") == 0)
            server.until(lambda: server.metric('promptir_requests_total{outcome="client-closed",status="499"}') == 2)
        assert calls[0].result().model_name == "promptir"


def test_the_deadline_of_a_call_is_the_deadline_of_its_job(start: Any, address: Any) -> None:
    server = start(simulated_base_ms=2000, max_batch=1, grpc_port=0).until_ready()
    with grpc.insecure_channel(address(server)) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            _infer(channel)(_request(), timeout=1.5)  # a run takes longer: known at once
        assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.until(lambda: server.metric('promptir_requests_total{outcome="deadline-exceeded",status="504"}') == 1)


def test_health_follows_the_life_of_the_server_and_the_drain_ends_calls_well(
    start: Any, address: Any, tmp_path: Path
) -> None:
    server = start(gate=tmp_path / "gate", simulated_base_ms=700, max_batch=1, grpc_port=0, drain_timeout_s=60)
    with grpc.insecure_channel(address(server)) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        serving, not_serving = b"\x08\x01", b"\x08\x02"
        assert next(watch) == not_serving
        with pytest.raises(grpc.RpcError) as refused:
            _infer(channel)(_request())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        server.until_ready()
        assert next(watch) == serving
        assert check(b"") == check(b"\x0a\x1e" + b"inference.GRPCInferenceService") == serving
        with pytest.raises(grpc.RpcError) as refused:
            check(b"\x0a\x01x")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with server.holding():
            pending = _infer(channel).future(_request())
            server.until(server.running)
            server.terminate()
            assert next(watch) == not_serving
            with pytest.raises(grpc.RpcError) as refused:
                _infer(channel)(_request())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert pending.result().model_name == "promptir"
        watch.cancel()
    assert server.wait() == 0


def test_a_port_that_is_taken_is_said_in_a_sentence(both: Any, address: Any, command: Any) -> None:
    port = address(both).rpartition(":")[2]
    done = command("serve", port=0, grpc_port=port, backend="simulated")
    assert done.returncode == 1
    assert f"cannot listen for gRPC on 127.0.0.1 port {port}" in done.stderr


def test_without_its_packages_a_port_is_refused_in_a_sentence() -> None:
    program = "import sys; sys.modules['grpc'] = None; from server.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("serve", "--port", "0", "--grpc-port", "0", "--backend", "simulated")
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("grpc is not installed; install the extra: pip install 'promptir-serve[grpc]'\n")


def _request(side: int = 8) -> Any:
    request = service_pb2.ModelInferRequest(model_name="promptir", raw_input_contents=[bytes(3 * side * side)])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 3, side, side])
    return request


def _infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        f"{SERVICE}/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
