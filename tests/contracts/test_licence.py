"""Tests that every distribution states its licence and carries the licence's text."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", [ROOT, ROOT / "promptir_client"], ids=["server", "client"])
def test_a_distribution_names_its_licence_and_carries_its_text(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE", "NOTICE"]
    for name in project["license-files"]:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
