"""What the backends' tests share: artifacts of one small network, and a CUDA device that is host memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cuda_in_host_memory import AddOne, CudaInHostMemory

from models.artifact import Manifest, Parity, sha256_of
from models.plan_manifest import PlanManifest

VARIANT = "promptir-tiny"


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="makes its weights with torch (extra `export`)")
    save_file = pytest.importorskip("safetensors.torch").save_file
    from models.variants import build, variant

    torch.manual_seed(0)
    network = build(variant(VARIANT))
    with torch.inference_mode():
        for parameter in network.parameters():  # initial ones and zeros would hide a lost weight or bias
            parameter += 0.1 * torch.randn_like(parameter)
    path: Path = tmp_path_factory.mktemp("tiny") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def weights_artifact(tiny_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make an artifact folder with the tiny weights and no model file; keywords replace fields of its manifest."""

    def make(**fields: object) -> Path:
        (tmp_path / "weights.safetensors").write_bytes(tiny_weights.read_bytes())
        known: dict[str, object] = {
            "name": "tiny",
            "variant": VARIANT,
            "input_name": "image",
            "output_name": "restored",
            "size_multiple": 8,
            "precision": "fp32",
            "opset": 17,
            "sha256": "0" * 64,
            "weights_sha256": sha256_of(tiny_weights),
            "parameters": 1,
            "parity": (Parity(shape=(1, 3, 8, 8), max_abs_error=0.0),),
            "exporter": {},
        }
        Manifest.model_validate(known | fields).save(tmp_path)
        return tmp_path

    return make


@pytest.fixture
def plan_manifest() -> Callable[..., PlanManifest]:
    """Make the manifest of a portable plan; keywords replace its fields."""

    def make(**fields: object) -> PlanManifest:
        known: dict[str, object] = {
            "name": "tiny",
            "variant": VARIANT,
            "input_name": "image",
            "output_name": "restored",
            "size_multiple": 8,
            "precision": "mixed",
            "opset": 17,
            "sha256": "0" * 64,
            "parameters": 1,
            "parity": (),
            "exporter": {},
            "flavour": "tensorrt_rtx",
            "tensorrt_version": "1.7.1.116",
            "profiles": ({"min": (1, 8, 8), "opt": (1, 64, 64), "max": (4, 128, 128)},),
            "options": {},
            "layer_types": {},
            "onnx_sha256": "0" * 64,
            "onnx_parity": (),
            "parity_unmeasured": "made for a test",
        }
        return PlanManifest.model_validate(known | fields)

    return make


@pytest.fixture
def cuda() -> CudaInHostMemory:
    return CudaInHostMemory()


@pytest.fixture
def new_context(cuda: CudaInHostMemory) -> Callable[[], AddOne]:
    return lambda: AddOne(cuda)
