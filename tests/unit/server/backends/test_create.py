"""Tests of the chooser."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import server
from server import backends
from server.settings import BackendSettings

PROJECT = Path(server.__file__).parents[1]
CHOICES = get_args(BackendSettings.model_fields["backend"].annotation)
RUNTIME_MODULES = {
    "simulated": "server.backends.simulated",
    "onnx": "server.backends.onnx_runtime",
    "tensorrt": "server.backends.tensorrt_plan",
    "pytorch": "server.backends.pytorch",
}


def _imported_by(statements: str) -> set[str]:
    program = f"{statements}\nimport sys; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(process.stdout.split())


def test_the_settings_choose_the_backend() -> None:
    assert {choice: type(backends.create(BackendSettings(backend=choice), 2)).__name__ for choice in CHOICES} == {
        "simulated": "SimulatedBackend",
        "onnx": "OnnxBackend",
        "tensorrt": "PlanBackend",
        "pytorch": "TorchBackend",
    }


def test_a_backend_is_made_for_a_device_or_for_the_first_one() -> None:
    settings = BackendSettings(backend="simulated", devices=("left", "right"))
    assert backends.create(settings, 2, "right").start().device == "right"
    assert backends.create(settings, 2).start().device == "left"


@pytest.mark.parametrize("choice", CHOICES)
def test_choosing_loads_no_runtime_before_start(choice: str) -> None:
    imported = _imported_by(
        "from server import backends; from server.settings import BackendSettings\n"
        f"backends.create(BackendSettings(backend={choice!r}), 1)"
    )
    assert not {"onnxruntime", "torch", "tensorrt", "tensorrt_rtx", "cuda"} & imported
    chosen = {module for module in RUNTIME_MODULES.values() if module in imported}
    assert chosen == {RUNTIME_MODULES[choice]}
