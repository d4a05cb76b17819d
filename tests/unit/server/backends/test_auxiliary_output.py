"""Tests of the auxiliary output of each backend: prompt weights and degradation probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import MODEL_FILE, Manifest, PromptOutput, sha256_of
from models.plan_manifest import PlanManifest, ShapeProfile
from server.backends.base import Aux, AuxOutput, ModelInput, Pixels, Result
from server.backends.cuda_device import CudaDevice
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings
from server.backends.plan_runs import PlanRuns
from server.backends.pytorch import TorchBackend, TorchSettings
from server.backends.simulated import SimulatedBackend
from server.errors import BackendUnavailable

PROMPT = PromptOutput(name="prompt_weights", levels=3, components=5)
PROFILE = ShapeProfile(min=(1, 8, 8), opt=(2, 16, 16), max=(2, 64, 64))


def photo(*shape: int, seed: int = 3) -> Pixels:
    return np.random.default_rng(seed).random(shape, np.float32)


def aux_of(result: Result) -> Aux:
    assert result.aux is not None
    return result.aux


def test_the_simulated_backend_weighs_each_image_by_its_first_pixel() -> None:
    backend = SimulatedBackend(0, 0, max_batch=3)
    info = backend.start()
    batch = photo(3, 3, 8, 16)
    aux = aux_of(backend.run(ModelInput(batch)))
    weights, degradations = aux[:, :-1], aux[:, -1, : len(info.model.labels)]
    assert weights.shape[1:] == PROMPT.shape
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
    np.testing.assert_array_equal(weights[:, :, 0], np.repeat(batch[:, 0, 0, :1], 3, axis=1))
    np.testing.assert_array_equal(degradations, np.stack([batch[:, 0, 0, 0], 1 - batch[:, 0, 0, 0]], axis=1))


@pytest.fixture
def weighing_model(weights_artifact: Callable[..., Path]) -> Callable[..., Path]:
    """Make an artifact whose model answers with its input, and with its means of colours as one level's weights."""
    onnx = pytest.importorskip("onnx", reason="writes its model with onnx")
    pytest.importorskip("onnxruntime", reason="runs its model with onnxruntime")
    tensor, free = onnx.helper.make_tensor_value_info, ("n", 3, "h", "w")

    def make(**fields: object) -> Path:
        graph = onnx.helper.make_graph(
            [
                onnx.helper.make_node("Relu", ["image"], ["restored"]),
                onnx.helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
                onnx.helper.make_node("Unsqueeze", ["means", "axis"], ["prompt_weights"]),
            ],
            "means",
            [tensor("image", onnx.TensorProto.FLOAT, free)],
            [
                tensor("restored", onnx.TensorProto.FLOAT, free),
                tensor("prompt_weights", onnx.TensorProto.FLOAT, ("n", 1, 3)),
            ],
            [onnx.numpy_helper.from_array(np.array([1], np.int64), "axis")],
        )
        opset = onnx.helper.make_opsetid("", 17)
        folder = weights_artifact()
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / MODEL_FILE)
        manifest = Manifest.load(folder).model_copy(update={"sha256": sha256_of(folder / MODEL_FILE)} | fields)
        manifest.save(folder)
        return folder

    return make


def test_onnx_runtime_returns_what_the_model_reports_for_each_image(weighing_model: Callable[..., Path]) -> None:
    artifact = weighing_model(prompt_output=PromptOutput(name="prompt_weights", levels=1, components=3))
    backend = OnnxBackend(OnnxSettings(artifact=artifact, threads=1), max_batch=4)
    assert backend.start().model.aux == AuxOutput((1, 3))
    batch = photo(4, 3, 16, 8)
    result = backend.run(ModelInput(batch))
    np.testing.assert_array_equal(result.pixels, batch)
    np.testing.assert_allclose(aux_of(result)[:, 0], batch.mean(axis=(2, 3)), atol=1e-6)


def test_a_bound_run_returns_it_too(weighing_model: Callable[..., Path]) -> None:
    artifact = weighing_model(prompt_output=PromptOutput(name="prompt_weights", levels=1, components=3))
    backend = OnnxBackend(OnnxSettings(artifact=artifact, threads=1), max_batch=4)
    backend.start()
    batch = photo(2, 3, 8, 8)
    result = backend._run_bound(backend._session, batch, "cpu")
    np.testing.assert_array_equal(result.pixels, batch)
    np.testing.assert_allclose(aux_of(result)[:, 0], batch.mean(axis=(2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (None, r"outputs are \['restored', 'prompt_weights'\], its manifest says \['restored'\]"),
        (PROMPT, r"output prompt_weights has shape \['n', 1, 3\], its manifest \('n', 3, 5\)"),
    ],
)
def test_onnx_runtime_refuses_a_model_whose_weights_are_not_the_manifests(
    weighing_model: Callable[..., Path], output: PromptOutput | None, words: str
) -> None:
    backend = OnnxBackend(OnnxSettings(artifact=weighing_model(prompt_output=output)), max_batch=4)
    with pytest.raises(BackendUnavailable, match=words):
        backend.start()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 5e-3)])
def test_torch_returns_the_networks_own_weights(
    weights_artifact: Callable[..., Path], tiny_weights: Path, precision: Any, tolerance: float
) -> None:
    torch = pytest.importorskip("torch", reason="runs the network with torch (extra `export`)")
    from models.checkpoint import load_network
    from models.variants import variant

    network = load_network(tiny_weights, variant("promptir-tiny"))
    settings = TorchSettings(backend="pytorch", artifact=weights_artifact(), torch_precision=precision)
    backend = TorchBackend(settings, max_batch=4)
    assert backend.start().model.aux == AuxOutput(PROMPT.shape)
    batch = photo(2, 3, 16, 24)
    with torch.inference_mode():
        expected = network.outputs(torch.from_numpy(batch)).prompt_weights.numpy()
    np.testing.assert_allclose(aux_of(backend.run(ModelInput(batch))), expected, atol=tolerance)
    again = backend.run(ModelInput(batch, precision="fp32"))
    np.testing.assert_allclose(aux_of(again), expected, atol=1e-6)


@pytest.fixture
def runs(cuda: Any, new_context: Callable[[], Any], plan_manifest: Callable[..., PlanManifest]) -> PlanRuns:
    manifest = plan_manifest(profiles=(PROFILE,), prompt_output=PROMPT)
    return PlanRuns(manifest, [new_context()], CudaDevice(cuda), 2**20, records=True)


def test_a_plans_weights_come_with_its_images_in_one_copy(runs: PlanRuns, cuda: Any) -> None:
    for seed in range(5):  # queued at first, then recorded and replayed
        batch = photo(2, 3, 16, 16, seed=seed)
        result = runs.run(ModelInput(batch))
        np.testing.assert_array_equal(result.pixels, batch + 1)
        expected = batch[:, 0, 0, :1] + np.arange(15, dtype=np.float32)
        np.testing.assert_array_equal(aux_of(result).reshape(2, 15), expected)
    assert cuda.calls.count("cudaMemcpyAsync") == 2 * 5
    assert cuda.calls.count("cudaGraphLaunch") > 0
    runs.close()
    assert (cuda.on_device, cuda.pinned) == ({}, {})


def test_the_parts_of_a_batch_write_their_own_rows(runs: PlanRuns) -> None:
    batch = photo(5, 3, 8, 8)
    np.testing.assert_array_equal(aux_of(runs.run(ModelInput(batch)))[:, 0, 0], batch[:, 0, 0, 0])


def test_a_plan_without_it_returns_pixels_alone(
    cuda: Any, new_context: Callable[[], Any], plan_manifest: Callable[..., PlanManifest]
) -> None:
    plain = PlanRuns(plan_manifest(profiles=(PROFILE,)), [new_context()], CudaDevice(cuda), 2**20, records=True)
    assert plain.run(ModelInput(photo(1, 3, 8, 8))).aux is None
