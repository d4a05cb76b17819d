"""Tests of the device query, with a driver library that the test compiles."""

import shutil
import subprocess
from pathlib import Path

import pytest

from models.nvidia_gpu import Device, find_device

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return %d; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA Test", length); return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return 0; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
"""
SUCCESS, NO_DEVICE = 0, 100

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def a_driver(folder: Path, answer: int) -> str:
    source, library = folder / "driver.c", folder / "driver.so"
    source.write_text(DRIVER % answer)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


@needs_compiler
def test_the_driver_is_asked_for_the_first_device(tmp_path: Path) -> None:
    assert find_device(a_driver(tmp_path, SUCCESS)) == Device("NVIDIA Test", "9.0", "CUDA 13.2")


@needs_compiler
def test_a_driver_without_a_device_has_none(tmp_path: Path) -> None:
    assert find_device(a_driver(tmp_path, NO_DEVICE)) is None


def test_without_a_driver_there_is_no_device(tmp_path: Path) -> None:
    assert find_device(str(tmp_path / "libcuda.so.1")) is None
