"""What the GPU tests share: whether there is a GPU, a small network's artifact, and photos of noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from server.backends.base import Pixels
from server.backends.cuda_device import open_device
from server.errors import BackendUnavailable

VARIANT = "promptir-tiny"


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    """Skip where CUDA finds no device, asked through whichever of torch and cuda-bindings is installed."""
    try:
        open_device()
    except BackendUnavailable as error:
        missing = str(error)
    else:
        return
    torch = pytest.importorskip("torch", reason="needs torch or cuda-bindings to find a GPU")
    if not torch.cuda.is_available():
        pytest.skip(f"needs an NVIDIA GPU: {missing}")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="makes its weights with torch (extra `export`)")
    save_file = pytest.importorskip("safetensors.torch").save_file
    from models.variants import build, variant

    torch.manual_seed(0)
    path: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(build(variant(VARIANT)).state_dict(), path)
    return path


@pytest.fixture
def photo() -> Callable[..., Pixels]:
    def make(*shape: int, seed: int = 0) -> Pixels:
        return np.random.default_rng(seed).random(shape, np.float32)

    return make
