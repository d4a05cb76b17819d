"""`promptir restore - -` between other programs."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
WAIT_S = 60.0


@pytest.fixture
def piped() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run `promptir restore` with bytes on its standard input."""

    def run(*arguments: object, data: bytes = b"", **streams: Any) -> subprocess.CompletedProcess[bytes]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
        settings = {"PROMPTIR_BACKEND": "simulated", "PROMPTIR_SIMULATED_BASE_MS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "server.cli", "restore", *map(str, arguments)],
            env=inherited | settings,
            timeout=WAIT_S,
            check=False,
            **({"input": data, "capture_output": True} | streams),
        )

    return run


def test_a_photo_goes_from_pipe_to_pipe_in_the_format_that_is_asked_for(
    piped: Any, png: Image, samples: Samples
) -> None:
    finished = piped("-", "-", data=png(13, 21))
    assert (finished.returncode, finished.stderr) == (0, b"")
    np.testing.assert_array_equal(samples(finished.stdout), samples(png(13, 21)))
    as_jpeg = piped("-", "-", "--format", "jpeg", data=png(13, 21))
    assert as_jpeg.stdout.startswith(b"\xff\xd8\xff")


def test_one_end_may_be_a_file(piped: Any, png: Image, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(9, 9))
    assert piped(tmp_path / "photo.png", "-").stdout.startswith(b"\x89PNG")
    assert piped("-", tmp_path / "new/restored.webp", data=png(9, 9)).returncode == 0
    assert (tmp_path / "new/restored.webp").read_bytes()[8:12] == b"WEBP"
    again = piped("-", tmp_path / "new/restored.webp", data=png(9, 9))
    assert again.returncode == 1
    assert b"--overwrite" in again.stderr


def test_a_server_restores_what_is_piped(piped: Any, png: Image, samples: Samples, server: Any) -> None:
    finished = piped("-", "-", "--server", server.url, "--backend", "no such thing", data=png(13, 21))
    assert finished.returncode == 1  # settings are checked even if the server does the work
    finished = piped("-", "-", "--server", server.url, data=png(13, 21))
    assert (finished.returncode, finished.stderr) == (0, b"")
    np.testing.assert_array_equal(samples(finished.stdout), samples(png(13, 21)))
    refused = piped("-", "-", "--server", server.url, data=b"no image at all")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"not an image" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "data", "reason"),
    [
        (["-", "-"], b"", b"standard input is empty"),
        (["-", "-"], b"no image at all", b"not an image"),
        (["-", "-", "--max-upload-bytes", "1000"], bytes(2000), b"1000 bytes"),
        (["-", "a.png", "-"], b"", b"one photo"),
        (["-", "-", "--skip-existing"], b"", b"--skip-existing"),
        (["-", "-", "--engine", "ray"], b"", b"--engine ray"),
        (["-", "out.gif"], b"x", b"output format"),
        (["-", "-", "--server", "http://127.0.0.1:9"], b"x", b"no server answers"),
    ],
)
def test_a_fault_is_one_sentence_on_standard_error_and_an_exit_code(
    piped: Any, arguments: list[str], data: bytes, reason: bytes
) -> None:
    finished = piped(*arguments, data=data)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert reason in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_an_endless_input_is_read_up_to_the_limit_and_no_further(piped: Any) -> None:
    with Path("/dev/zero").open("rb") as endless:
        finished = piped("-", "-", "--max-upload-bytes", "100000", input=None, stdin=endless, capture_output=True)
    assert finished.returncode == 1
    assert b"100000 bytes" in finished.stderr


def test_no_image_is_written_to_a_terminal(piped: Any, png: Image) -> None:
    ours, theirs = pty.openpty()
    try:
        streams = {"capture_output": False, "stdout": theirs, "stderr": subprocess.PIPE}
        finished = piped("-", "-", data=png(8, 8), **streams)
        assert finished.returncode == 1
        assert b"redirect" in finished.stderr
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(("closed", "reason"), [("<&-", b"standard input is closed"), (">&-", b"standard output is")])
def test_a_closed_stream_is_one_sentence(closed: str, reason: bytes, png: Image) -> None:
    command = f"exec {sys.executable} -m server.cli restore - - {closed}"
    settings = {"PROMPTIR_BACKEND": "simulated", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    finished = subprocess.run(
        ["bash", "-c", command], input=png(8, 8), env=settings, capture_output=True, timeout=WAIT_S, check=False
    )
    assert finished.returncode == 1
    assert reason in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_a_reader_that_leaves_ends_the_command_without_a_traceback(png: Image) -> None:
    command = f"{sys.executable} -m server.cli restore - - | true; echo ${{PIPESTATUS[0]}}"
    settings = {
        "PROMPTIR_BACKEND": "simulated",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    finished = subprocess.run(
        ["bash", "-c", command], input=png(300, 300), env=settings, capture_output=True, timeout=WAIT_S, check=True
    )
    assert finished.stdout.split() in ([b"141"], [b"0"])
    assert b"Traceback" not in finished.stderr
