"""`promptir restore --watch` as its users run it: real processes, real signals."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
WAIT_S = 60.0


class Watch:
    """A running `promptir restore --watch`."""

    def __init__(self, folder: Path, out: Path, *options: object, **settings: object) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
        given = {"backend": "simulated", "simulated_base_ms": 1, "simulated_ms_per_megapixel": 1} | settings
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "restore", "--watch", folder, out, *map(str, options)],
            env=inherited
            | {"OMP_NUM_THREADS": "1"}
            | {f"PROMPTIR_{name}".upper(): str(v) for name, v in given.items()},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < give_up, self.said
            time.sleep(0.02)

    def until_said(self, words: str) -> "Watch":
        self.until(lambda: any(words in line for line in self.said))
        return self

    def count(self, words: str) -> int:
        return sum(words in line for line in self.said)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    """Start watching the folder `in` of the test for results in `out`."""
    (tmp_path / "in").mkdir()
    with ExitStack() as running:

        def start(*options: object, settle: float = 0.2, **settings: object) -> Watch:
            watching = Watch(tmp_path / "in", tmp_path / "out", "--settle", settle, *options, **settings)
            running.callback(watching.stop)
            return watching

        yield start


def results(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*.png")}


def test_each_photo_that_appears_is_restored_once(tmp_path: Path, watch: Any, png: Image, samples: Samples) -> None:
    (tmp_path / "in/before.png").write_bytes(png(8, 9))
    watching = watch().until_said("watching")
    (tmp_path / "in/deep/er").mkdir(parents=True)
    (tmp_path / "in/deep/er/after.jpg").write_bytes(png(10, 11))
    (tmp_path / "in/.hidden.png").write_bytes(png(8, 8))
    (tmp_path / "in/photo.png.part").write_bytes(png(8, 8))
    (tmp_path / "in/link.png").symlink_to(tmp_path / "in/before.png")
    watching.until(lambda: results(tmp_path / "out") == {"before.png", "deep/er/after.jpg.png"})
    np.testing.assert_array_equal(samples((tmp_path / "out/before.png").read_bytes()), samples(png(8, 9)))
    written = (tmp_path / "out/before.png").stat().st_mtime_ns
    (tmp_path / "out/deep/er/after.jpg.png").unlink()  # fetched by the next program
    watching.until_said("after.jpg: ")
    assert watching.end(signal.SIGTERM) == 0
    again = watch().until_said("watching")
    (tmp_path / "in/third.png").write_bytes(png(5, 5))
    again.until_said("third.png: ")
    assert again.end(signal.SIGINT) == 130
    assert results(tmp_path / "out") == {"before.png", "third.png"}
    assert (tmp_path / "out/before.png").stat().st_mtime_ns == written
    assert again.count("written to") == 1
    assert not any("Traceback" in line for line in (*watching.said, *again.said))


def test_a_photo_that_is_replaced_is_restored_again_over_its_result_only(
    tmp_path: Path, watch: Any, png: Image, samples: Samples
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/theirs.png").write_bytes(b"precious")
    (tmp_path / "in/theirs.png").write_bytes(png(8, 8))
    (tmp_path / "in/ours.png").write_bytes(png(8, 8))
    watching = watch().until_said("ours.png: ").until_said("theirs.png failed")
    (tmp_path / "in/ours.png").write_bytes(png(20, 30))
    watching.until(lambda: watching.count("ours.png: ") == 2)
    assert samples((tmp_path / "out/ours.png").read_bytes()).shape == (20, 30, 3)
    assert (tmp_path / "out/theirs.png").read_bytes() == b"precious"
    assert "--overwrite" in (tmp_path / "out/failures.txt").read_text()


def test_an_upload_that_is_still_being_written_is_not_taken(tmp_path: Path, watch: Any, png: Image) -> None:
    data = png(40, 40)
    watching = watch().until_said("watching")
    with (tmp_path / "in/slow.png").open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        (tmp_path / "in/quick.png").write_bytes(png(8, 8))
        watching.until_said("quick.png: ")
        time.sleep(2.5)  # far longer than it takes a whole file to settle
        assert watching.count("slow.png") == 0
        file.write(data[len(data) // 2 :])
    watching.until_said("slow.png: ")
    assert watching.count(" failed: ") == 0


def test_a_bad_file_is_recorded_once_and_tried_again_when_it_changes(tmp_path: Path, watch: Any, png: Image) -> None:
    (tmp_path / "in/bad.png").write_bytes(b"no image")
    (tmp_path / "in/cut.png").write_bytes(png(30, 30)[:200])
    (tmp_path / "in/empty.png").write_bytes(b"")
    watching = watch()
    watching.until(lambda: watching.count(" failed: ") == 3)
    assert watching.end(signal.SIGTERM) == 0
    again = watch().until_said("watching")
    (tmp_path / "in/bad.png").write_bytes(png(8, 8))
    again.until_said("bad.png: ")
    assert again.count(" failed: ") == 0
    lines = (tmp_path / "out/failures.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == ["bad.png", "cut.png", "empty.png"]


def test_a_watch_that_is_killed_at_any_moment_loses_and_repeats_nothing(
    tmp_path: Path, watch: Any, png: Image, samples: Samples
) -> None:
    names = {f"{number}.png" for number in range(40)}
    for number, name in enumerate(sorted(names)):
        (tmp_path / "in" / name).write_bytes(png(16, 16 + number))
    chance = random.Random(7)
    seen: dict[str, int] = {}
    for _ in range(4):
        watching = watch(settle=0, simulated_base_ms=60).until_said("watching")
        time.sleep(chance.uniform(0.1, 0.6))
        watching.end(signal.SIGKILL)
        for name in results(tmp_path / "out"):
            data = tmp_path / "out" / name
            assert samples(data.read_bytes()) is not None, "a result was not whole"
            assert seen.setdefault(name, data.stat().st_ino) == data.stat().st_ino, "a result was written twice"
    watching = watch(settle=0)
    watching.until(lambda: results(tmp_path / "out") == names)
    assert watching.end(signal.SIGTERM) == 0
    for name, inode in seen.items():
        assert (tmp_path / "out" / name).stat().st_ino == inode
    assert [path.name for path in (tmp_path / "out").glob("*.partial")] == []


def test_a_server_that_is_gone_is_waited_for(tmp_path: Path, watch: Any, png: Image, start: Any) -> None:
    server = start().until_ready()
    port = server.url.rpartition(":")[2]
    watching = watch("--server", server.url).until_said("watching")
    server.stop()
    (tmp_path / "in/photo.png").write_bytes(png(8, 8))
    watching.until_said("waiting")
    start(port=port).until_ready()
    watching.until_said("photo.png: ")
    assert watching.count(" failed: ") == 0
    assert watching.end(signal.SIGTERM) == 0


def test_what_cannot_be_watched_is_said_in_one_sentence(tmp_path: Path, watch: Any, command: Any) -> None:
    watching = watch().until_said("watching")
    for arguments, reason in (
        (("--watch", tmp_path / "in", tmp_path / "out"), "another run"),
        (("--watch", tmp_path / "none", tmp_path / "other"), "not a folder"),
        (("--watch", tmp_path / "in", tmp_path), "new photos"),
        (("--watch", tmp_path / "in", tmp_path / "a", tmp_path / "b"), "OUT"),
        (("--watch", tmp_path / "in", tmp_path / "other", "--resume"), "--skip-existing"),
    ):
        finished = command("restore", *arguments, backend="simulated")
        assert finished.returncode == 1
        assert reason in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
    assert watching.end(signal.SIGTERM) == 0
