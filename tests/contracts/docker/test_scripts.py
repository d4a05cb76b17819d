"""Tests of the shell scripts with a linter."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "docker").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing_and_the_script_can_be_run(script: str, tool: Callable[[str], str]) -> None:
    found = subprocess.run([tool("shellcheck"), PROJECT / script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert os.access(PROJECT / script, os.X_OK)
    assert "set -euo pipefail" in (PROJECT / script).read_text()
