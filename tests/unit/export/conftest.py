"""Fixtures with a small network and its exported artifact, created once for all export tests."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.to_onnx import export_onnx
from models.artifact import Manifest
from models.restoration import RestorationNetwork
from models.variants import build, variant

VARIANT = "promptir-tiny"


@pytest.fixture(scope="session")
def network() -> RestorationNetwork:
    torch.manual_seed(0)
    network = build(variant(VARIANT)).eval()
    with torch.inference_mode():
        for parameter in network.parameters():  # initial ones and zeros would hide a missing weight or bias
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="session")
def weights(network: RestorationNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact folder, which is read-only."""
    folder = tmp_path_factory.mktemp("export") / "artifact"
    export_onnx(weights, VARIANT, folder)
    return folder


@pytest.fixture(scope="session")
def manifest(artifact: Path) -> Manifest:
    return Manifest.load(artifact)


@pytest.fixture(scope="session")
def mixed_artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same network in mixed precision, which is read-only."""
    folder = tmp_path_factory.mktemp("export") / "mixed"
    export_onnx(weights, VARIANT, folder, precision="mixed")
    return folder
