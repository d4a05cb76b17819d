"""The ONNX Runtime backend on an NVIDIA device."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.backends.base import ModelInput, Pixels
from server.backends.onnx_providers import PROVIDER_NAMES, Provider
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings
from server.scheduling.execution.recovery import psnr

ort = pytest.importorskip("onnxruntime", reason="runs its models with onnxruntime (extra `gpu`)")
export = pytest.importorskip("export.to_onnx", reason="exports its model (extra `export`)")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("onnx") / "tiny"
    export.export_onnx(weights, "promptir-tiny", folder)
    return folder


@pytest.mark.parametrize("providers", [("cuda", "cpu"), ("tensorrt", "cuda", "cpu")])
def test_a_gpu_provider_answers_like_the_cpu(
    artifact: Path, tmp_path: Path, photo: Callable[..., Pixels], providers: tuple[Provider, ...]
) -> None:
    if PROVIDER_NAMES[providers[0]] not in ort.get_available_providers():
        pytest.skip(f"this onnxruntime has no provider {providers[0]}")
    on_cpu = OnnxBackend(OnnxSettings(artifact=artifact), max_batch=8)
    on_gpu = OnnxBackend(
        OnnxSettings(artifact=artifact, onnx_providers=providers, cache_folder=tmp_path),
        max_batch=8,
    )
    on_cpu.start()
    assert on_gpu.start().device == f"cuda:0 ({providers[0]})"
    for shape in [(1, 3, 64, 64), (1, 3, 64, 64), (3, 3, 96, 128), (1, 3, 512, 512)]:
        batch = photo(*shape)
        assert psnr(on_gpu.run(ModelInput(batch)).pixels, on_cpu.run(ModelInput(batch)).pixels) > 80
    on_gpu.stop()
