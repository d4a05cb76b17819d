"""Tests of the locks: each has the packages of its extras and none that they exclude."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[3]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = {
    "cpu": ["cpu", "heif", "tracing", "grpc"],
    "gpu": ["gpu", "pytorch", "heif", "tracing", "grpc"],
    "export": ["export", "cpu"],
}
"""Lock -> the extras of the image it is for."""
LOCKS = (*EXTRAS, "build", "tensorrt", "tensorrt-rtx")


def pins(lock: str) -> dict[str, set[str]]:
    """Return name -> pinned versions; there are two if they depend on the Python version."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock_text(lock), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def lock_text(lock: str) -> str:
    return (PROJECT / "docker/locks" / f"{lock}.txt").read_text()


def asked(extra: str) -> Iterator[Requirement]:
    project = PYPROJECT["project"]
    yield from map(Requirement, [*project["dependencies"], *project["optional-dependencies"][extra]])


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", lock_text(lock).strip())
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.+!-]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_satisfies_the_extras_it_is_for(lock: str) -> None:
    pinned = pins(lock)
    for extra in EXTRAS[lock]:
        for requirement in asked(extra):
            versions = pinned.get(canonicalize_name(requirement.name))
            assert versions, f"{lock}.txt lacks {requirement}; run `make lock`"
            assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_the_build_lock_holds_the_build_tools() -> None:
    for requirement in map(Requirement, PYPROJECT["build-system"]["requires"]):
        (version,) = pins("build")[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)


def test_no_image_has_both_runtimes_and_the_torch_that_serves_is_the_one_that_measures_plans() -> None:
    assert "onnxruntime" in pins("cpu")
    assert "onnxruntime-gpu" in pins("gpu")
    for lock in LOCKS:
        assert not {"onnxruntime", "onnxruntime-gpu"} <= set(pins(lock))
    for lock in ("cpu", "tensorrt", "tensorrt-rtx"):
        assert "torch" not in pins(lock)
    assert pins("gpu")["torch"] == pins("export")["torch"]


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("below", ["gpu", "export"])
def test_tensorrt_contradicts_nothing_it_is_installed_over(flavour: str, below: str) -> None:
    shared = set(pins(flavour)) & set(pins(below))
    assert {name: pins(flavour)[name] for name in shared} == {name: pins(below)[name] for name in shared}


def test_the_images_have_the_tensorrt_that_the_tests_know() -> None:
    tested = {
        requirement.name: requirement
        for requirement in map(Requirement, PYPROJECT["project"]["optional-dependencies"]["dev"])
    }
    assert tested["tensorrt-cu13-bindings"].specifier.contains(*pins("tensorrt")["tensorrt-cu13-bindings"])
    assert tested["tensorrt-rtx"].specifier.contains(*pins("tensorrt-rtx")["tensorrt-rtx"])
