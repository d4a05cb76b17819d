"""The files under docker/, parsed, and the tools that check them."""

import importlib.util
import json
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"


@pytest.fixture(scope="session")
def docker() -> Path:
    return PROJECT / "docker"


@pytest.fixture(scope="session")
def compose(docker: Path) -> dict[str, Any]:
    """The model of compose.yaml, its variables unresolved."""
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
    """The path of a checker that the extra `dev` installs."""

    def find(name: str) -> str:
        found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
        assert found is not None, f"the extra `dev` installs {name}"
        return found

    return find
