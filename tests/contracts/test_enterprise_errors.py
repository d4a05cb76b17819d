"""Tests of the messages for a missing library or driver of Enterprise TensorRT."""

import subprocess
from collections.abc import Callable
from pathlib import Path

RunPython = Callable[..., subprocess.CompletedProcess[str]]

START = """
from export.plan_builder import BuildError, PlanBuilder
from export.to_tensorrt import load_tensorrt, makes_portable_plans
trt = load_tensorrt()
print(trt.__name__, trt.__version__, makes_portable_plans(trt))
try:
    PlanBuilder(trt).start()
except BuildError as error:
    print(error)
"""


def test_missing_libraries_are_named(run_python: RunPython, tmp_path: Path) -> None:
    found = run_python("-m", "export.cli", "tensorrt", "--onnx", str(tmp_path), "--output", str(tmp_path / "plan"))
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith("promptir-export: TensorRT is installed but its libraries do not load (libnv")
    assert found.stderr.endswith(
        "cannot open shared object file: No such file or directory); install them or extend LD_LIBRARY_PATH\n"
    )


def test_a_builder_that_the_driver_does_not_give_is_explained(
    run_python: RunPython, enterprise_libraries: Path, enterprise_major: str
) -> None:
    found = run_python("-c", START, libraries=enterprise_libraries)
    assert found.returncode == 0, found.stderr
    library, sentence = found.stdout.splitlines()
    assert library.startswith(f"tensorrt {enterprise_major}.")
    assert library.endswith("False")
    assert sentence == (
        "no usable NVIDIA GPU or driver on this machine; check with nvidia-smi, or use an ONNX artifact on the CPU "
        "(TensorRT could not start: pybind11::init(): factory function returned nullptr)"
    )
