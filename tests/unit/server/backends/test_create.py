"""Tests of the chooser."""

import subprocess
import sys
from pathlib import Path

import pytest

import server
from server import backends
from server.settings import BackendSettings

PROJECT = Path(server.__file__).parents[1]


def _imported_by(statements: str) -> set[str]:
    program = f"{statements}\nimport sys; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(process.stdout.split())


def test_the_settings_choose_the_backend() -> None:
    simulated = backends.create(BackendSettings(backend="simulated"), max_batch=2)
    onnx = backends.create(BackendSettings(backend="onnx"), max_batch=2)
    assert (type(simulated).__name__, type(onnx).__name__) == ("SimulatedBackend", "OnnxBackend")


@pytest.mark.parametrize("choice", ["simulated", "onnx"])
def test_choosing_loads_no_runtime_before_start(choice: str) -> None:
    imported = _imported_by(
        "from server import backends; from server.settings import BackendSettings\n"
        f"backends.create(BackendSettings(backend={choice!r}), 1)"
    )
    assert not {"onnxruntime", "torch"} & imported
    assert ("server.backends.onnx_runtime" in imported) == (choice == "onnx")
