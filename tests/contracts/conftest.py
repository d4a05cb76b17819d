"""Fixtures that make Enterprise TensorRT importable: its real bindings on stub libraries compiled here."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BINDINGS = "tensorrt-cu13-bindings"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
STUB = Path(__file__).with_name("enterprise_stub.c")
PROJECT = Path(__file__).resolve().parents[2]

# The package `tensorrt` of the real libraries contains only this.
TENSORRT_PACKAGE = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def enterprise_major() -> str:
    """Return the major version of the installed bindings, which is part of the names of their libraries."""
    try:
        return importlib.metadata.version(BINDINGS).partition(".")[0]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {BINDINGS}, which the extra `dev` installs")


@pytest.fixture(scope="session")
def enterprise_package(enterprise_major: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with the package `tensorrt`, whose bindings find no library yet."""
    folder = tmp_path_factory.mktemp("enterprise")
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "__init__.py").write_text(TENSORRT_PACKAGE)
    return folder


@pytest.fixture(scope="session")
def enterprise_libraries(enterprise_major: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with the stub libraries."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the stub libraries")
    folder = tmp_path_factory.mktemp("libraries")
    for library in LIBRARIES:
        target = folder / f"lib{library}.so.{enterprise_major}"
        subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", target, STUB], check=True)
    return folder


@pytest.fixture
def run_python(enterprise_package: Path) -> RunPython:
    """Run Python in a separate process, in which `import tensorrt` imports Enterprise TensorRT."""

    def run(*arguments: str, libraries: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(enterprise_package), str(PROJECT))),
            "LD_LIBRARY_PATH": str(libraries or ""),
        }
        return subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120
        )

    return run
