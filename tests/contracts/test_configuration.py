"""Tests that the settings page is current and covers every setting."""

import re
from pathlib import Path
from types import ModuleType

import pytest
from doc_scripts import doc_script

from server.settings import PREFIX, environment_names

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return doc_script("settings_tables")


def test_the_tables_of_settings_are_those_of_the_server(tables: ModuleType) -> None:
    page = tables.SETTINGS.read_text()
    assert page == tables.settings(page), "run `make monitoring`"


def test_every_setting_has_one_row_with_what_it_takes_and_why(tables: ModuleType) -> None:
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", tables.SETTINGS.read_text(), re.M)
    assert sorted(name for name, *_ in rows) == sorted(environment_names())
    assert all(cell.strip() for row in rows for cell in row)
    found = {name: (default, allowed) for name, default, allowed, _ in rows}
    assert found["PORT"] == ("`8000`", "whole number ≥ 0, ≤ 65535")
    assert found["ARTIFACT"] == ("`models/artifacts/promptnaf`", "comma-separated paths")
    assert found["MAX_WHOLE_PIXELS"][0] == "unset"


def test_every_setting_that_a_page_names_exists() -> None:
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(rf"{PREFIX}([A-Z][A-Z0-9_]*[A-Z0-9])\b", page.read_text())}
    known = set(environment_names())
    assert len(named) > 20
    assert named - known - {"MAXBATCH"} == set()  # the example of an invalid setting
