"""Tests that the snippets of docs/clients.md run as written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs/clients.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
WAIT_S = 300  # six processes start one after another, perhaps on a busy machine


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, png: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder with the files that the page uses."""
    for number, name in enumerate(("photo.jpg", "photos/a.jpg", "photos/deep/b.jpg")):
        samples = cv2.imdecode(np.frombuffer(png(40, 56, seed=number), np.uint8), cv2.IMREAD_COLOR)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", samples)[1].tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def address(start: Any, tmp_path: Path) -> str:
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    return str(server.url)


def test_the_python_of_the_page_runs(desk: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in snippets("python"):
        exec(compile(snippet.replace(ADDRESS, address), "docs/clients.md", "exec"), names)  # noqa: S102
    said = capsys.readouterr().out
    assert (desk / "restored.jpg").read_bytes().startswith(b"\xff\xd8")
    assert "whole" in said
    assert "done 1 1" in said
    assert "415 unsupported-image" in said
    assert "2 []" in said


def test_the_javascript_of_the_page_runs(desk: Path, address: str) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("needs node (Debian: nodejs)")
    (script,) = snippets("js")
    (desk / "restore.mjs").write_text(script.replace(ADDRESS, address))
    run = partial(
        subprocess.run, [node, "restore.mjs"], capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=desk
    )
    finished = run()
    assert finished.returncode == 0, finished.stderr
    restored = cv2.imread(str(desk / "restored.webp"))
    assert restored is not None
    assert restored.shape == (40, 56, 3)
    (desk / "photo.jpg").write_bytes(b"this is no image")
    refused = run()
    assert refused.returncode == 1
    assert "Error: Unsupported image: " in refused.stderr


def test_the_commands_of_the_page_run(desk: Path, address: str) -> None:
    (commands,) = [snippet for snippet in snippets("sh") if snippet.startswith("promptir restore photo.jpg")]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    script = f'promptir() {{ "{sys.executable}" -m server.cli "$@"; }}\nset -e\n{commands.replace(ADDRESS, address)}'
    finished = subprocess.run(
        ["bash", "-c", script],
        env=inherited | {"PYTHONPATH": str(PROJECT), "PROMPTIR_BACKEND": "simulated"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    written = {path.relative_to(desk).as_posix() for path in desk.rglob("*") if path.is_file()}
    assert {
        "restored.png",
        "restored/a.png",
        "restored/deep/b.png",
        "by-pattern/a.jpg",
        "by-pattern/deep/b.jpg",
        "several/photo.png",
        "several/photos/deep/b.png",
        "by-server/deep/b.png",
        "as-one-job.zip",
    } <= written
    assert "0 restored, 2 skipped of 2 images" in finished.stderr
