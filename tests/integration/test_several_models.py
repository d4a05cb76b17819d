"""Two networks in one real server: the shipped one, and a small one of the paper's kind that mixes sizes."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.http

from models.artifact import DEFAULT_ARTIFACT, MANIFEST_FILE, MODEL_FILE
from promptir_client import Client, NotFound

SHIPPED, TINY = "promptnaf", "tiny"
SIZES = ((32, 24), (24, 32), (40, 24))
ROUNDING = 1.01 / 255


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="exports the small network with torch (extra `export`)")
    from safetensors.torch import save_file

    from export.to_onnx import export_onnx
    from models.variants import build, variant

    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    save_file(build(variant("promptir-tiny")).state_dict(), folder / "weights.safetensors")
    export_onnx(folder / "weights.safetensors", "promptir-tiny", folder / TINY, masked=True)
    return folder / TINY


@pytest.fixture(scope="module")
def server(session_start: Any, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both networks over HTTP and gRPC, with jobs."""
    return session_start(
        backend="onnx",
        artifact=f"{DEFAULT_ARTIFACT},{tiny}",
        threads=1,
        grpc_port=0,
        jobs_folder=tmp_path_factory.mktemp("jobs"),
    ).until_ready()


@pytest.fixture(scope="module")
def alone(tiny: Path) -> Callable[[str, np.ndarray], np.ndarray]:
    """What ONNX Runtime makes of (H, W, 3) pixels in a run of their own, by the name of the model."""
    sessions = {
        name: onnxruntime.InferenceSession(folder / MODEL_FILE, providers=["CPUExecutionProvider"])
        for name, folder in ((SHIPPED, DEFAULT_ARTIFACT), (TINY, tiny))
    }

    def run(model: str, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        inputs: dict[str, np.ndarray] = {"image": (image / np.float32(255)).transpose(2, 0, 1)[np.newaxis]}
        if model == TINY:
            inputs |= {"height": np.array([height], np.int64), "width": np.array([width], np.int64)}
        restored = sessions[model].run(["restored"], inputs)[0]
        return np.clip(restored[0].transpose(1, 2, 0), 0, 1)

    return run


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file_of(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def ran(server: Any, model: str) -> float:
    return float(server.metric(f'promptir_batch_size_sum{{model="{model}"}}'))


@pytest.mark.parametrize("model", [SHIPPED, TINY])
def test_each_model_answers_with_its_own_result_and_its_name(model: str, client: Client, alone: Any) -> None:
    image = noise(32, 24, seed=1)
    answer = client.restore(image, model=model, report=True)
    np.testing.assert_allclose(answer.numpy() / 255, alone(model, image), atol=ROUNDING)
    assert answer.model == model
    assert answer.report is not None
    assert answer.report.document["model"] == model
    assert (answer.report.degradations is not None) == (model == SHIPPED)  # the small one names none


def test_the_first_artifact_is_the_default_and_has_one_entity_tag_named_or_not(server: Any) -> None:
    image = file_of(noise(16, 16, seed=2))
    default, named, other = (
        server.client.post("/restore", content=image, params=params)
        for params in ({}, {"model": SHIPPED}, {"model": TINY})
    )
    assert default.headers["X-Restore-Model"] == SHIPPED
    assert default.content == named.content
    assert default.headers["ETag"] == named.headers["ETag"] != other.headers["ETag"]
    told = {"If-None-Match": default.headers["ETag"]}
    assert server.client.post("/restore", content=image, headers=told).status_code == 304
    assert server.client.post("/restore", content=image, headers=told, params={"model": TINY}).status_code == 200


def test_under_load_no_batch_mixes_models_and_equal_photos_do_not_share_work(
    server: Any, client: Client, alone: Any
) -> None:
    asked = [(model, noise(*size, seed)) for seed in range(4) for size in SIZES for model in (SHIPPED, TINY)]
    before = {model: ran(server, model) for model in (SHIPPED, TINY)}
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda one: client.restore(one[1], model=one[0]), asked))
    for (model, image), answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer.numpy() / 255, alone(model, image), atol=ROUNDING)
        assert answer.model == model
    for model in (SHIPPED, TINY):
        assert ran(server, model) - before[model] == len(asked) / 2


def test_the_server_describes_both(server: Any) -> None:
    described = server.client.get("/").json()
    assert [model["name"] for model in described["models"]] == [SHIPPED, TINY]
    assert described["model"] == described["models"][0]
    assert list(server.client.get("/v1/version").json()["artifacts"]) == [SHIPPED, TINY]
    (device,) = server.client.get("/v1/scheduler").json()["devices"]
    assert [model["name"] for model in device["models"]] == [SHIPPED, TINY]
    assert all(model["costs"] for model in device["models"])  # the warm-up has measured each


@pytest.mark.parametrize("path", ["/restore", "/v1/jobs"])
def test_a_model_that_is_not_served_is_refused_with_the_names_of_those_that_are(path: str, server: Any) -> None:
    answer = server.client.post(path, content=file_of(noise(8, 8, seed=0)), params={"model": "other"})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (404, "urn:promptir:problem:unknown-model")
    assert problem["models"] == [SHIPPED, TINY]
    assert f"'other'; there are {SHIPPED}, {TINY}" in problem["detail"]


def test_the_client_raises_for_a_model_that_is_not_served(client: Client) -> None:
    with pytest.raises(NotFound, match=f"{SHIPPED}, {TINY}") as refused:
        client.restore(noise(8, 8, seed=0), model="other")
    assert refused.value.slug == "unknown-model"


def test_openais_model_field_chooses_one_and_names_of_openai_mean_the_default(server: Any, alone: Any) -> None:
    image = noise(24, 24, seed=8)
    for named, model in ((TINY, TINY), (SHIPPED, SHIPPED), ("gpt-image-1", SHIPPED)):
        answer = server.client.post("/v1/images/edits", files={"image": file_of(image)}, data={"model": named})
        assert answer.status_code == 200, answer.text
        data = np.frombuffer(base64.b64decode(answer.json()["data"][0]["b64_json"]), np.uint8)
        found = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        np.testing.assert_allclose(found / 255, alone(model, image), atol=ROUNDING)


def test_jobs_are_restored_by_the_model_they_name(server: Any, client: Client, alone: Any) -> None:
    image = noise(24, 32, seed=3)
    for model in (TINY, SHIPPED):
        job = client.submit(image, model=model)
        answer = client.wait(job)
        np.testing.assert_allclose(answer.numpy() / 255, alone(model, image), atol=ROUNDING)
        assert answer.model == model
        stored = server.client.get(f"/v1/jobs/{job.id}").json()
        assert (stored["options"]["model"], stored["result"]["model"]) == (model, model)


@pytest.mark.parametrize("library", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_the_open_inference_protocol_lists_and_serves_both(library: Any, server: Any, alone: Any) -> None:
    image = noise(32, 24, seed=4)
    pixels = (image / np.float32(255)).transpose(2, 0, 1)[np.newaxis]
    tensor = library.InferInput("image", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    with closing(library.InferenceServerClient(_address(server, library))) as triton:
        index = triton.get_model_repository_index()
        listed = (
            [each["name"] for each in index] if library is tritonclient.http else [each.name for each in index.models]
        )
        own = [name + form for name in ("promptir", SHIPPED, TINY) for form in ("", "-uint8", "-file")]
        assert listed == own
        for name, model in (("promptir", SHIPPED), (SHIPPED, SHIPPED), (TINY, TINY)):
            assert triton.is_model_ready(name)
            found = triton.infer(name, [tensor])
            expected = alone(model, image).transpose(2, 0, 1)[np.newaxis]
            np.testing.assert_allclose(found.as_numpy("restored"), expected, atol=1e-4)


def test_the_statistics_of_the_protocol_are_of_one_model(server: Any, client: Client) -> None:
    def counts() -> dict[str, int]:
        told = server.client.get("/v2/models/stats").json()["model_stats"]
        return {each["name"]: each["inference_stats"]["success"]["count"] for each in told}

    before = counts()
    client.restore(noise(8, 8, seed=5), model=TINY)
    after = counts()
    assert {name for name in after if after[name] > before[name]} == {TINY, f"{TINY}-uint8", f"{TINY}-file"}
    assert after["promptir"] == after[SHIPPED]


def test_the_command_line_restores_with_the_model_it_names(
    command: Any, tiny: Path, tmp_path: Path, alone: Any
) -> None:
    image = noise(16, 24, seed=6)
    (tmp_path / "in.png").write_bytes(file_of(image))
    both = ("--artifact", DEFAULT_ARTIFACT, "--artifact", tiny)
    finished = command("restore", *both, "--model", TINY, tmp_path / "in.png", tmp_path / "out.png")
    assert finished.returncode == 0, finished.stderr
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(found / 255, alone(TINY, image), atol=ROUNDING)
    refused = command("restore", *both, "--model", "other", tmp_path / "in.png", tmp_path / "other.png")
    assert refused.returncode != 0
    assert f"no model other; the artifacts are of {SHIPPED}, {TINY}" in refused.stderr


def test_a_run_with_a_server_ends_at_once_if_that_does_not_know_the_model(
    server: Any, command: Any, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.png").write_bytes(file_of(noise(8, 8, seed=9)))
    photos = tmp_path / "one.png", tmp_path / "two.png"
    finished = command("restore", "--server", server.url, "--model", "other", *photos, tmp_path / "out")
    assert finished.returncode == 1
    assert f"there are {SHIPPED}, {TINY}" in finished.stderr
    finished = command("restore", "--server", server.url, "--model", TINY, *photos, tmp_path / "out")
    assert finished.returncode == 0, finished.stderr


def test_two_artifacts_of_one_name_are_refused_at_the_start(command: Any, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(DEFAULT_ARTIFACT, twin)
    finished = command("serve", "--artifact", f"{DEFAULT_ARTIFACT},{twin}", "--port", 0)
    assert finished.returncode != 0
    (line,) = finished.stderr.strip().splitlines()
    assert f"{DEFAULT_ARTIFACT} and {twin} both hold a model called {SHIPPED}" in line


def test_a_better_artifact_of_one_model_leaves_the_other_as_it_is(start: Any, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "better"
    server = start(
        backend="onnx", artifact=f"{DEFAULT_ARTIFACT},{tiny}", successor=f"{tmp_path / 'none'},{folder}", threads=1
    ).until_ready()
    shipped, other = server.client.get("/").json()["models"]
    staging = tmp_path / "staging"
    shutil.copytree(tiny, staging)
    manifest = json.loads((staging / MANIFEST_FILE).read_text()) | {"name": "better"}
    (staging / MANIFEST_FILE).write_text(json.dumps(manifest))
    image = file_of(noise(24, 24, seed=7))
    before = [server.client.post("/restore", content=image, params={"model": name}) for name in (SHIPPED, TINY)]
    staging.rename(folder)
    server.until(lambda: server.client.get("/").json()["models"][1]["artifact"] == "better")
    assert server.client.get("/").json()["models"] == [shipped, other | {"artifact": "better"}]
    after = [server.client.post("/restore", content=image, params={"model": name}) for name in (SHIPPED, TINY)]
    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert [answer.headers["X-Restore-Model"] for answer in after] == [SHIPPED, TINY]
    assert after[0].headers["ETag"] == before[0].headers["ETag"]
    assert after[1].headers["ETag"] != before[1].headers["ETag"]
    assert server.metric('promptir_artifact_swaps_total{result="done"}') == 1


def _address(server: Any, library: Any) -> str:
    if library is tritonclient.http:
        return str(server.url.removeprefix("http://"))
    server.until(lambda: any(line["message"] == "listening for gRPC" for line in server.lines))
    return next(f"{at['host']}:{at['port']}" for at in server.lines if at["message"] == "listening for gRPC")
