"""What the server tells of itself: in the protocol's shapes and in those of NVIDIA's microservices."""

import json
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from models.artifact import DEFAULT_ARTIFACT

NAMES = {"promptir": "FP32", "promptir-uint8": "UINT8", "promptir-file": "BYTES"}


def test_a_client_finds_server_and_models(server: Any, triton: Any) -> None:
    client = triton(server)
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "promptir-serve"
    assert "binary_tensor_data" in metadata["extensions"]
    assert {each["name"]: each["state"] for each in client.get_model_repository_index()} == dict.fromkeys(
        NAMES, "READY"
    )
    for name, datatype in NAMES.items():
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, "1")
        described = client.get_model_metadata(name, "1")
        assert described["versions"] == ["1"]
        shape = [-1, 1] if datatype == "BYTES" else [-1, 3, -1, -1]
        assert described["inputs"] == [{"name": "image", "datatype": datatype, "shape": shape}]
        assert described["outputs"] == [{"name": "restored", "datatype": datatype, "shape": shape}]
        config = client.get_model_config(name)
        assert (config["max_batch_size"], config["input"][0]["dims"]) == (64, shape[1:])


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/versions/2", "/versions/2/ready"])
def test_what_there_is_not_is_said_in_the_protocols_form(path: str, server: Any) -> None:
    model = "promptir" if "versions" in path else "other"
    answer = server.client.get(f"/v2/models/{model}{path}")
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/nothing/here", 404), ("GET", "/v2/models/promptir/infer", 405), ("PUT", "/v2", 405)],
)
def test_the_routers_own_errors_speak_the_protocol(method: str, path: str, status: int, server: Any) -> None:
    answer = server.client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_an_unknown_model_is_not_ready(server: Any, triton: Any) -> None:
    assert not triton(server).is_model_ready("other")
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        triton(server).get_model_metadata("other")


def test_readiness_comes_after_the_warm_up_and_goes_with_the_drain(start: Any, triton: Any, png: Any) -> None:
    server = start(simulated_base_ms=700, max_batch=1)
    client = triton(server)
    assert client.is_server_live()
    assert not client.is_server_ready()
    assert not client.is_model_ready("promptir")
    starting = server.client.get("/v1/health/ready")
    assert (starting.status_code, starting.json()["status"]) == (503, "not ready")
    assert server.client.get("/v2/health/ready").json() == {"ready": False}
    refused = server.client.post("/v2/models/promptir/infer", content=b"{}")
    assert (refused.status_code, list(refused.json())) == (503, ["error"])
    assert server.client.get("/v1/version").json()["artifact"] is None
    server.until_ready()
    assert client.is_server_ready()
    assert client.is_model_ready("promptir")
    assert server.client.get("/v1/health/ready").json() == {
        "object": "health.response",
        "message": "Service is ready.",
        "status": "ready",
    }
    pending = client.async_infer("promptir", _tensor())
    server.until(lambda: bool(server.client.get("/v1/scheduler").json()["devices"][0]["running"]))
    server.terminate()
    server.until(lambda: not client.is_server_ready())
    assert client.is_server_live()
    assert server.client.get("/v1/health/live").json()["status"] == "live"
    with pytest.raises(InferenceServerException, match="stopping"):
        client.infer("promptir", _tensor())
    assert pending.get_result().as_numpy("restored").shape == (1, 3, 8, 8)
    client.close()
    assert server.wait() == 0


def test_the_version_names_the_network_by_its_hash(network: Any) -> None:
    manifest = json.loads((DEFAULT_ARTIFACT / "manifest.json").read_text())
    version = network.client.get("/v1/version").json()
    assert version["artifact"]["sha256"] in json.dumps(manifest)
    assert version["artifact"]["precision"] == "fp32"
    assert (version["backend"], version["devices"], version["device"]) == ("onnx", ["cpu"], "cpu")
    assert version["version"] == network.client.get("/v2").json()["version"]


def _tensor() -> list[Any]:
    import numpy as np
    from tritonclient.http import InferInput

    tensor = InferInput("image", [1, 3, 8, 8], "UINT8")
    return [tensor.set_data_from_numpy(np.zeros((1, 3, 8, 8), np.uint8))]
