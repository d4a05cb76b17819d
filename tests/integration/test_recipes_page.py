"""The recipes of docs/recipes.md run as written."""

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs/recipes.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
WAIT_S = 120


def recipe(title: str, language: str) -> str:
    """The block of one section in one language."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


@pytest.fixture
def desk(tmp_path: Path, png: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder with the photo that the page uses."""
    samples = cv2.imdecode(np.frombuffer(png(40, 56), np.uint8), cv2.IMREAD_COLOR)
    (tmp_path / "photo.jpg").write_bytes(cv2.imencode(".jpg", samples)[1].tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def address(start: Any, tmp_path: Path) -> str:
    return str(start(jobs_folder=tmp_path / "jobs").until_ready().url)


def shell(commands: str, address: str) -> list[str]:
    commands = commands.replace(ADDRESS, address)
    return ["bash", "-c", f'promptir() {{ "{sys.executable}" -m server.cli "$@"; }}\nset -eo pipefail\n{commands}']


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    path = f"/usr/bin:{os.environ['PATH']}"  # with ImageMagick: apt-get install imagemagick
    return inherited | {"PYTHONPATH": str(PROJECT), "PROMPTIR_BACKEND": "simulated", "PATH": path}


def run(commands: str, address: str) -> None:
    finished = subprocess.run(
        shell(commands, address), env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_the_shell_recipes_write_what_they_say(desk: Path, address: str) -> None:
    run(recipe("curl", "sh"), address)
    assert (desk / "restored.jpg").read_bytes().startswith(b"\xff\xd8")
    run(recipe("A job without holding the connection", "sh"), address)
    assert zipfile.ZipFile(desk / "restored.zip").namelist() == ["photo.webp", "photo-2.webp"]
    run(recipe("ImageMagick and other pipes", "sh"), address)
    small = cv2.imread(str(desk / "small.jpg"))
    assert small is not None
    assert small.shape == (20, 28, 3)


def test_the_hot_folder_restores_what_is_copied_into_it(desk: Path, address: str) -> None:
    command = shell(recipe("A hot folder", "sh").replace("promptir restore", "promptir restore --settle 0.1"), address)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True) as watching:
        try:
            give_up = time.monotonic() + WAIT_S
            while not (desk / "restored/photo.jpg.png").exists():
                assert time.monotonic() < give_up
                if (desk / "incoming").is_dir() and not (desk / "incoming/photo.jpg").exists():
                    shutil.copy(desk / "photo.jpg", desk / "incoming/photo.jpg")
                time.sleep(0.05)
        finally:
            os.killpg(watching.pid, signal.SIGKILL)


def test_the_python_recipes_run(desk: Path, address: str) -> None:
    for title in ("OpenAI's client", "ComfyUI"):
        exec(compile(recipe(title, "python").replace(ADDRESS, address), "docs/recipes.md", "exec"), {})  # noqa: S102
    assert (desk / "edited.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_recipe_for_signatures_agrees_with_the_server() -> None:
    from server.jobs.webhook_sender import signatures

    names: dict[str, Any] = {}
    exec(recipe("A job without holding the connection", "python"), names)  # noqa: S102
    key, now = bytes(32), int(time.time())
    secret = f"whsec_{base64.b64encode(key).decode()}"
    for moment, body, genuine in ((now, b"{}", True), (now, b"{} ", False), (now - 1000, b"{}", False)):
        signed = signatures([key], "msg_1", moment, b"{}")
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(moment), "webhook-signature": signed}
        assert names["is_genuine"](secret, headers, body) is genuine


def test_every_block_of_the_page_is_one_of_these() -> None:
    assert len(re.findall(r"^```\w+$", PAGE, re.MULTILINE)) == 7
