"""Tests of the script that trains the shipped weights."""

import os
import subprocess
from pathlib import Path

import pytest

from models.training.cli import main
from models.training.mix import Mix

SCRIPT = Path(__file__).resolve().parents[4] / "models" / "training" / "shipped_runs.sh"


@pytest.fixture
def commands(tmp_path: Path) -> list[list[str]]:
    """Arguments of every call of `promptir-train` in the script; its folders do not exist."""
    tool, log = tmp_path / "promptir-train", tmp_path / "log"
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" END >> "$LOG"\n')
    tool.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    arguments = [str(tmp_path / name) for name in ("photos", "runs")]
    subprocess.run(["sh", str(SCRIPT), *arguments], env={"PATH": path, "LOG": str(log)}, check=True)
    return [call.splitlines() for call in log.read_text().split("END\n")[:-1]]


def test_every_command_of_the_shipped_runs_is_understood(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [call[0] for call in commands].count("fit") == 17
    for call in commands:
        assert main(call) == 1, "a command that is not understood would exit"
        missing = "weights file" if call[0] in ("average", "calibrate") else "photos"
        assert missing in capsys.readouterr().err


def test_the_mixes_of_the_shipped_runs_name_known_degradations(commands: list[list[str]]) -> None:
    mixes = [call[call.index("--mix") + 1 :] for call in commands if "--mix" in call]
    assert len(mixes) == 16
    for mix in mixes:
        Mix.adjusted({name: float(share) for name, _, share in (pair.partition("=") for pair in mix)})
