"""The blocks of README.md and docs/index.md run one after another, as a new user pastes them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

PROJECT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8000"
NOT_HERE = ("make ", "docker ", "/pip install")  # they need a network, a container engine or minutes
SAMPLE = "server/web/samples/town.jpg"
WAIT_S = 120


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of a page that can run here, as (language, text)."""
    found = re.findall(r"^```(\w+)\n(.*?)```", (PROJECT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found if not any(word in text for word in NOT_HERE)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder that has the files of the repository which the pages use."""
    for name in ("server", "models"):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program = tmp_path / ".venv/bin/promptir"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m server.cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "count"), [("README.md", 3), ("docs/index.md", 3)])
def test_the_blocks_of_a_first_page_can_be_pasted(page: str, count: int, desk: Path, start: Any) -> None:
    address = str(start().until_ready().url)
    found = blocks(page)
    assert len(found) == count
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    for language, text in found:
        text = text.replace(ADDRESS, address)
        if language == "python":
            exec(compile(text, page, "exec"), {})  # noqa: S102
            continue
        environment = inherited | {"PYTHONPATH": str(PROJECT), "PROMPTIR_BACKEND": "simulated"}
        pasted = subprocess.run(
            ["sh", "-e", "-c", text], env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert pasted.returncode == 0, pasted.stderr
    for name in ("restored.png", "restored-here.png"):
        pixels, photo = cv2.imread(str(desk / name)), cv2.imread(str(desk / SAMPLE))
        assert pixels is not None
        assert photo is not None
        assert pixels.shape == photo.shape


def test_the_photo_of_the_first_pages_is_one_that_the_model_visibly_restores(session_start: Any) -> None:
    shipped = session_start(backend="onnx").until_ready()
    answer = shipped.client.post(
        "/restore",
        params={"report": "true"},
        content=(PROJECT / SAMPLE).read_bytes(),
        headers={"Accept": "application/json"},
    ).json()
    assert answer["degradations"]["haze"] > 0.5
    assert answer["change"]["mean_abs"] > 0.05
    for page in ("README.md", "docs/index.md"):
        assert f"-F file=@{SAMPLE}" in (PROJECT / page).read_text()
