"""`promptir restore` with whatever a folder can hold, and with servers that are not there."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Image = Callable[..., bytes]
Command = Callable[..., Any]
SIMULATED = {"backend": "simulated", "simulated_base_ms": 1}


@pytest.fixture
def folder(tmp_path: Path, png: Image) -> Path:
    """Names that are not UTF-8 or hold line feeds, sound and broken ones, and things that are no files."""
    made = tmp_path / "in"
    made.mkdir()
    for name in (b"caf\xe9.png", b"new\nline.png", b"plain.png"):
        Path(os.fsdecode(bytes(made) + b"/" + name)).write_bytes(png(8, 8))
        Path(os.fsdecode(bytes(made) + b"/broken-" + name)).write_bytes(b"broken")
    os.mkfifo(made / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(made / "socket.png"))
    return made


@pytest.mark.parametrize("at_server", [False, True], ids=["here", "by a server"])
def test_every_name_is_restored_or_told(
    at_server: bool, folder: Path, server: Any, command: Command, tmp_path: Path
) -> None:
    failures = tmp_path / "failures.txt"
    more = ("--server", server.url) if at_server else ()
    done = command("restore", folder, tmp_path / "out", "--failures", failures, *more, **SIMULATED)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "3 restored, 3 failed of 6 images" in done.stderr
    written = sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir())
    assert written == [b"caf\xe9.png", b"new\nline.png", b"plain.png"]
    lines = failures.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert all("not an image" in line.partition("\t")[2] for line in lines)
    again = command("restore", "--list", failures, tmp_path / "again", **SIMULATED)
    assert "0 restored, 3 failed of 3 images" in again.stderr


def test_a_pipe_by_its_own_name_is_refused(tmp_path: Path, command: Command) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    done = command("restore", tmp_path / "pipe.png", tmp_path / "out.png", **SIMULATED)
    assert done.stderr.endswith("pipe.png is neither a file nor a folder\n")
    (tmp_path / "list").write_text(f"{tmp_path / 'pipe.png'}\n")
    listed = command("restore", "--list", tmp_path / "list", tmp_path / "out", **SIMULATED)
    assert listed.returncode == 1
    assert "pipe.png is not a regular file" in listed.stderr


def test_one_photo_tells_where_it_went(tmp_path: Path, png: Image, command: Command) -> None:
    (tmp_path / "photo.jpg").write_bytes(png(8, 8))
    (tmp_path / "out").mkdir()
    done = command("restore", tmp_path / "photo.jpg", tmp_path / "out", **SIMULATED)
    assert done.stderr == f"promptir: almost nothing changed; written to {tmp_path / 'out/photo.png'}\n"
    again = command("restore", tmp_path / "photo.jpg", tmp_path / "out", "--skip-existing", **SIMULATED)
    assert (again.returncode, "1 skipped" in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{free}", "no server answers at http://127.0.0.1:{free}"),
        ("http://127.0.0.1:{free}/below/", "no server answers at http://127.0.0.1:{free}/below/"),
        ("http://nowhere.invalid", "no server answers at http://nowhere.invalid"),
        ("127.0.0.1:8000", "127.0.0.1:8000 is not the URL of a server"),
        ("http://", "it names no host"),
        ("http://[::1", "http://[::1 is not the URL of a server"),
    ],
)
def test_a_server_that_is_not_there_is_named_at_once(
    url: str, reason: str, tmp_path: Path, png: Image, command: Command
) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 8))
    with socket.socket() as unused:  # bound and not listening: nobody else gets the port, and no connection is taken
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
        began = time.monotonic()
        done = command("restore", tmp_path / "a.png", tmp_path / "b.png", "--server", url.format(free=free))
    assert done.returncode == 1
    assert time.monotonic() - began < 20  # the retries alone would take longer
    assert reason.format(free=free) in done.stderr
    assert len(done.stderr.splitlines()) == 1
