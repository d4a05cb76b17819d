"""The ComfyUI node, as ComfyUI loads and calls it."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptir_client import InvalidRequest

SOURCE = Path(__file__).resolve().parents[2] / "promptir_client/comfyui"


@pytest.fixture
def node(tmp_path: Path) -> Any:
    """The node of a copy of the folder, which is how it is installed."""
    copy = shutil.copytree(SOURCE, tmp_path / "custom_nodes/promptir")
    spec = importlib.util.spec_from_file_location("custom_promptir", copy / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (name,) = module.NODE_CLASS_MAPPINGS
    assert name in module.NODE_DISPLAY_NAME_MAPPINGS
    return module.NODE_CLASS_MAPPINGS[name]


def test_a_batch_of_tensors_comes_back_in_order_and_within_16_bits(node: Any, server: Any) -> None:
    inputs = node.INPUT_TYPES()["required"]
    images = torch.from_numpy(np.random.default_rng(3).random((5, 12, 20, 3), np.float32))
    (restored,) = getattr(node(), node.FUNCTION)(image=images, server=server.url, strength=inputs["strength"][1]["max"])
    assert (restored.shape, restored.dtype) == (images.shape, torch.float32)
    assert (restored - images).abs().max() < 1e-4  # the simulated backend returns what it gets
    assert node.RETURN_TYPES == ("IMAGE",)


def test_values_beyond_white_and_black_are_clipped(node: Any, server: Any) -> None:
    images = torch.tensor([-0.5, 0.0, 1.0, 1.5]).reshape(1, 2, 2, 1).expand(1, 2, 2, 3)
    (restored,) = node().restore(images, server.url, 1.0)
    assert restored.flatten().tolist() == [0.0] * 6 + [1.0] * 6


def test_an_error_of_the_server_reaches_the_user_with_its_reason(node: Any, server: Any) -> None:
    with pytest.raises(InvalidRequest, match="strength"):
        node().restore(torch.zeros(1, 4, 4, 3), server.url, 7.0)
