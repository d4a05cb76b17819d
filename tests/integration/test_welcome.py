"""Tests of the welcome message of `promptir serve` on a terminal."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE

ROOT = Path(__file__).resolve().parents[2]
STOP_TIMEOUT_S = 60
LOG_LINE = "{"


@pytest.fixture
def environment() -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    return others | {"PYTHONPATH": str(ROOT), "PROMPTIR_BACKEND": "simulated", "PROMPTIR_PORT": "0"}


def on_a_terminal(environment: dict[str, str], last: str, *, stop: bool = False) -> tuple[list[str], int]:
    """Run the server on a terminal up to a line with `last`; then stop it if asked to. Returns lines and exit code."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "server.cli", "serve"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=environment) as server:
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8", newline=None) as screen:
            lines: list[str] = []
            while last not in (lines or [""])[-1]:
                lines.append(screen.readline())
            if stop:
                server.send_signal(signal.SIGTERM)
            return lines, server.wait(STOP_TIMEOUT_S)


def test_a_terminal_is_told_the_address_of_a_ready_server_and_what_to_do_next(environment: dict[str, str]) -> None:
    lines, code = on_a_terminal(environment, last="Press Ctrl-C", stop=True)
    ready, told = (next(at for at, line in enumerate(lines) if words in line) for words in ('"ready"', "serving at"))
    assert ready < told
    said = [line for line in lines if not line.startswith(LOG_LINE)]
    assert said[0] == "promptir: loading the model\n"
    (url,) = re.findall(r"serving at (http://127\.0\.0\.1:\d+)$", said[1].rstrip())
    assert f"{url}/ and drop a photo" in "".join(said)
    assert f"curl -F file=@photo.jpg {url}/restore -o restored.png" in "".join(said)
    assert f"{url}/docs" in "".join(said)
    assert code == 0


def test_a_server_that_cannot_load_its_model_tells_why_and_no_address(
    environment: dict[str, str], tmp_path: Path
) -> None:
    broken = shutil.copytree(DEFAULT_ARTIFACT, tmp_path / "broken")
    with (broken / MODEL_FILE).open("ab") as model:
        model.write(b"one byte more")
    settings = {"PROMPTIR_BACKEND": "onnx", "PROMPTIR_ARTIFACT": str(broken)}
    lines, code = on_a_terminal(environment | settings, last="promptir: cpu:")
    assert f"{MODEL_FILE} does not match its manifest" in lines[-1]
    assert "serving at" not in "".join(lines)
    assert code == 1


def test_a_log_that_is_no_terminal_gets_log_lines_alone(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "server.cli", "serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=ROOT, env=environment, text=True) as server:
        assert server.stderr is not None
        first = server.stderr.readline()
        port = re.search(r'"port": ?(\d+)', first)
        server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=STOP_TIMEOUT_S)[1]
    assert port is not None, first
    assert all(line.startswith(LOG_LINE) for line in [first, *rest.splitlines()])
