"""Fixtures with the parsed files of docker/ and the tools that check them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from plan_volumes import ARTIFACT

PROJECT = Path(__file__).resolve().parents[3]
SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
# podman-compose queries the engine's version and its objects; no container is started here.
PODMAN = """#!/bin/sh
case "$1" in --version) echo "podman version 5.4.2" ;; *) echo "[]" ;; esac
"""

RunCompose = Callable[..., str]


@pytest.fixture(scope="session")
def docker() -> Path:
    return PROJECT / "docker"


@pytest.fixture(scope="session")
def compose(docker: Path) -> dict[str, Any]:
    """Parse compose.yaml, with unresolved variables."""
    return yaml.safe_load((docker / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def compose_schema() -> dict[str, Any]:
    return json.loads((SCHEMAS / "compose.json").read_text())


@pytest.fixture
def script(docker: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import one of the scripts that are copied into the images."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, docker / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return the path of a checker that the extra `dev` installs."""

    def find(name: str) -> str:
        found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
        assert found is not None, f"the extra `dev` installs {name}"
        return found

    return find


@pytest.fixture(scope="session")
def podman_compose(docker: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> RunCompose:
    """Run podman-compose on compose.yaml: `podman_compose(*arguments, dotenv=text, **variables)` -> its whole output.

    `dotenv` is the text of the .env file; the project's variables in the caller's environment are removed.
    """
    folder = tmp_path_factory.mktemp("compose")
    (folder / "podman").write_text(PODMAN)
    (folder / "podman").chmod(0o755)

    def run(*arguments: str, dotenv: str = "", **variables: str) -> str:
        (folder / "env").write_text(dotenv)
        command = [tool("podman-compose"), "-f", str(docker / "compose.yaml"), "--env-file", str(folder / "env")]
        environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), **variables}
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def resolved(podman_compose: RunCompose) -> dict[str, Any]:
    """Resolve compose.yaml with a compose implementation, with every variable at its default."""
    profiles = ["--profile", "cpu", "--profile", "gpu", "--profile", "export"]
    return yaml.safe_load(podman_compose(*profiles, "config"))


@pytest.fixture
def volume(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("plan_volume")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    ARTIFACT.save(folder)
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def hopper(volume: ModuleType) -> Any:
    return volume.Runtime("tensorrt", "11.4.0", "NVIDIA H100 80GB HBM3", "9.0")
