"""The version and the Pythons are the same wherever they are named."""

import re
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


def project(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((PROJECT / folder / "pyproject.toml").read_text())["project"]
    return found


def test_server_client_and_changelog_have_one_version() -> None:
    (newest, *_) = re.findall(r"^## \[(.+?)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project(".")["version"] == project("promptir_client")["version"] == newest


def test_server_and_client_support_the_same_pythons() -> None:
    for folder in (".", "promptir_client"):
        named = re.findall(r"Python :: (3\.\d+)", " ".join(project(folder)["classifiers"]))
        assert named == ["3.11", "3.12", "3.13", "3.14"]
        assert project(folder)["requires-python"] == f">={named[0]}"
