"""Tests of the welcome message of `promptir serve` on a terminal."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STOP_TIMEOUT_S = 60
LOG_LINE = "{"


@pytest.fixture
def environment() -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    return others | {"PYTHONPATH": str(ROOT), "PROMPTIR_BACKEND": "simulated", "PROMPTIR_PORT": "0"}


def test_a_terminal_is_told_the_address_and_what_to_do_next(environment: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "server.cli", "serve"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT, env=environment) as server:
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8", newline=None) as screen:
            lines: list[str] = []
            while '"ready"' not in (lines or [""])[-1]:  # from then on signals are handled
                lines.append(screen.readline())
            server.send_signal(signal.SIGTERM)
            said = [line for line in lines if not line.startswith(LOG_LINE)]
            (url,) = re.findall(r"serving at (http://127\.0\.0\.1:\d+)$", said[0].rstrip())
            assert f"{url}/ and drop a photo" in "".join(said)
            assert f"curl -F file=@photo.jpg {url}/restore -o restored.png" in "".join(said)
            assert f"{url}/docs" in "".join(said)
            assert server.wait(STOP_TIMEOUT_S) == 0


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
