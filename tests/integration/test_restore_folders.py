"""`promptir restore` on many photos: interrupted, resumed, by a server, and what it says meanwhile."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
Command = Callable[..., Any]
QUICK = {"backend": "simulated", "simulated_base_ms": 1}
SLOW = {"PROMPTIR_BACKEND": "simulated", "PROMPTIR_SIMULATED_BASE_MS": "200", "PROMPTIR_MAX_BATCH": "1"}
PHOTOS = 30
WAIT_S = 120.0


@pytest.fixture
def photos(tmp_path: Path, png: Image) -> Path:
    """A folder of photos, some of them deeper."""
    for number in range(PHOTOS):
        path = tmp_path / "in" / ("deep" if number % 2 else ".") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(16, 24, seed=number))
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Where the tests run in the background of a shell they ignore SIGINT, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def begun(*arguments: object, **streams: Any) -> subprocess.Popen[str]:
    """A slow run in its own process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    command = [sys.executable, "-m", "server.cli", "restore", *map(str, arguments)]
    streams = {"stderr": subprocess.PIPE} | streams
    return subprocess.Popen(command, env=inherited | SLOW, text=True, **streams)


def files_in(folder: Path) -> dict[str, int]:
    """Every file below a folder and when it was written."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def until_some(folder: Path, process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + WAIT_S
    while sum(path.suffix == ".png" for path in folder.rglob("*")) < 5:
        assert process.poll() is None
        assert time.monotonic() < give_up, "nothing was restored"
        time.sleep(0.005)


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGINT"])
def test_a_run_that_ends_early_is_resumed_without_doing_anything_again(
    signal_name: str, photos: Path, tmp_path: Path, samples: Samples, command: Command
) -> None:
    out = tmp_path / "out"
    with begun(photos, out) as process:
        until_some(out, process)
        process.send_signal(getattr(signal, signal_name))
        said = process.communicate(timeout=WAIT_S)[1]
    early = {name: written for name, written in files_in(out).items() if name.endswith(".png")}
    assert 5 <= len(early) < PHOTOS
    for name in early:  # whole, whenever it ended
        np.testing.assert_array_equal(samples((out / name).read_bytes()), samples((photos / name).read_bytes()))
    if signal_name == "SIGINT":
        assert process.returncode == 130
        assert f"{len(early)} restored, {PHOTOS - len(early)} left of {PHOTOS} images" in said
        assert "--resume" in said
        assert early.keys() == files_in(out).keys()
    resumed = command("restore", photos, out, "--resume", **QUICK)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{PHOTOS - len(early)} restored, {len(early)} skipped of {PHOTOS} images" in resumed.stderr
    late = files_in(out)
    assert late.keys() == files_in(photos).keys()
    assert {name: late[name] for name in early} == early


def test_what_exists_fails_or_is_skipped_or_is_replaced_as_asked(
    photos: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/00.png").write_bytes(b"precious")
    failures = tmp_path / "logs/failures.tsv"
    finished = command("restore", photos, tmp_path / "out", "--failures", failures, **QUICK)
    assert finished.returncode == 1
    assert f"1 of {PHOTOS} images failed" in finished.stderr
    (line,) = failures.read_text().splitlines()
    assert line.startswith(f"{photos}/00.png\t")
    assert "exists" in line
    assert command("restore", photos, tmp_path / "out", "--skip-existing", **QUICK).returncode == 0
    assert (tmp_path / "out/00.png").read_bytes() == b"precious"
    again = command("restore", photos, "--overwrite", tmp_path / "out", "--jobs", 8, **QUICK)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out/00.png").read_bytes() != b"precious"
    assert command("restore", photos, tmp_path / "out", "--overwrite", "--resume", **QUICK).returncode == 2


def test_a_server_restores_a_list_and_what_it_refuses_is_told(
    server: Any, photos: Path, tmp_path: Path, samples: Samples, command: Command
) -> None:
    (photos / "00.png").write_bytes(b"no image")
    (photos / "02.png").write_bytes(b"")
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*(f"{photos}/{number:02}.png" for number in range(0, 8, 2)), "gone.png"]))
    finished = command(
        "restore", "--list", listed, tmp_path / "out", "--format", "webp", "--server", server.url, "--strength", "0.5"
    )
    assert finished.returncode == 1
    assert "2 restored, 3 failed of 5 images" in finished.stderr
    assert "415 unsupported-image" in finished.stderr
    assert "the file is empty" in finished.stderr
    assert "Traceback" not in finished.stderr
    below = tmp_path / "out" / photos.relative_to("/")
    assert sorted(path.name for path in below.iterdir()) == ["04.png.webp", "06.png.webp"]
    assert samples((below / "04.png.webp").read_bytes()).shape == (16, 24, 3)


def test_a_server_that_is_gone_ends_the_run(photos: Path, tmp_path: Path, command: Command) -> None:
    finished = command("restore", photos, tmp_path / "out", "--server", "nowhere:1")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("promptir: nowhere:1 is not the URL")


def test_a_terminal_sees_the_pace_and_the_time_left(photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with begun(photos, tmp_path / "out", stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        try:
            while part := os.read(ours, 4096):
                drawn += part
        except OSError:  # Linux's word for the other side being closed
            pass
        os.close(ours)
    assert process.returncode == 0
    assert b"image/s" in drawn
    assert f"{PHOTOS}/{PHOTOS}".encode() in drawn
    assert f"{PHOTOS} restored of {PHOTOS} images".encode() in drawn
    assert drawn.count(b".png: almost nothing changed\r\n") == PHOTOS
