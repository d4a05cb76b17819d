"""`promptir restore` as its users run it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
Command = Callable[..., Any]
SIMULATED = {"backend": "simulated", "simulated_base_ms": 1}


def test_a_file_is_restored_into_the_format_of_its_new_name(
    tmp_path: Path, png: Image, samples: Samples, command: Command
) -> None:
    source = tmp_path / "photo.png"
    source.write_bytes(png(13, 21))
    assert command("restore", source, tmp_path / "new/restored.png", **SIMULATED).returncode == 0
    np.testing.assert_array_equal(samples((tmp_path / "new/restored.png").read_bytes()), samples(png(13, 21)))
    assert command("restore", source, tmp_path / "restored.webp", **SIMULATED).returncode == 0
    with PIL.Image.open(tmp_path / "restored.webp") as image:
        assert (image.format, image.size) == ("WEBP", (21, 13))


def test_a_folder_is_restored_and_what_fails_is_summed_up(tmp_path: Path, png: Image, command: Command) -> None:
    for number in range(5):
        path = tmp_path / f"in/deep/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(9, 9 + number))
    (tmp_path / "in/broken.png").write_bytes(png(9, 9)[:80])
    (tmp_path / "in/text.jpg").write_bytes(b"hello")
    finished = command("restore", tmp_path / "in", tmp_path / "out", **SIMULATED)
    assert finished.returncode == 1
    assert "2 of 7 images failed" in finished.stderr
    assert "broken.png" in finished.stderr
    assert "text.jpg" in finished.stderr
    assert "Traceback" not in finished.stderr
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == [f"deep/{number}.png" for number in range(5)]


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, png: Image, command: Command) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(png(8, 8))
    target.write_bytes(b"precious")
    refused = command("restore", source, target, **SIMULATED)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    assert target.read_bytes() == b"precious"
    assert command("restore", source, target, "--overwrite", **SIMULATED).returncode == 0
    assert target.read_bytes() != b"precious"


def test_what_cannot_be_done_is_said_in_one_sentence(tmp_path: Path, png: Image, command: Command) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 8))
    for source, target, reason in (
        (tmp_path / "none.png", tmp_path / "b.png", "does not exist"),
        (tmp_path / "a.png", tmp_path / "b.gif", "output format"),
    ):
        finished = command("restore", source, target, **SIMULATED)
        assert finished.returncode == 1
        assert finished.stderr.startswith("promptir: ")
        assert reason in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
