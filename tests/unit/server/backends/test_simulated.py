"""Tests of the simulated backend."""

import threading
from pathlib import Path

import numpy as np
import pytest

from server.backends.base import ModelInput, Pixels
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendUnavailable


def _batch(count: int = 1, height: int = 8, width: int = 8) -> Pixels:
    return np.random.default_rng(1).random((count, 3, height, width), np.float32)


@pytest.mark.parametrize("count", [1, 2])
def test_it_answers_with_its_input_and_copies_a_single_image_of_its_sender(count: int) -> None:
    batch = _batch(count)
    output = SimulatedBackend(0, 0, max_batch=2).run(ModelInput(batch)).pixels
    assert np.array_equal(output, batch)
    assert np.shares_memory(output, batch) == (count > 1)


def test_its_duration_grows_with_all_pixels_of_the_batch() -> None:
    backend = SimulatedBackend(base_ms=2, ms_per_megapixel=10, max_batch=8)
    assert backend.duration_s((1, 3, 1000, 500)) == pytest.approx(0.007)
    assert backend.duration_s((4, 3, 1000, 500)) == pytest.approx(0.022)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 3, 12, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_it_refuses_a_shape_that_the_network_cannot_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match="multiples of 8"):
        SimulatedBackend(0, 0, max_batch=1).run(ModelInput(np.zeros(shape, np.float32)))


def test_it_refuses_more_than_its_largest_batch() -> None:
    with pytest.raises(BackendError, match="a batch of 3 exceeds the largest batch of 2"):
        SimulatedBackend(0, 0, max_batch=2).run(ModelInput(_batch(3)))


def test_it_refuses_a_second_run_while_one_runs() -> None:
    entered, release = threading.Event(), threading.Event()

    class Observed(np.ndarray):  # type: ignore[type-arg]
        """Says when it is copied, which is when a run has begun, and holds it there."""

        def copy(self, order: str = "C") -> Pixels:  # type: ignore[override]
            entered.set()
            assert release.wait(10)
            return np.array(self)

    backend = SimulatedBackend(0, 0, max_batch=1)
    first = threading.Thread(target=backend.run, args=(ModelInput(_batch().view(Observed)),), daemon=True)
    first.start()
    assert entered.wait(10)
    with pytest.raises(BackendError, match="while one was running"):
        backend.run(ModelInput(_batch()))
    release.set()
    first.join(10)
    assert backend.run(ModelInput(_batch())).pixels.shape == (1, 3, 8, 8)


def test_it_says_what_it_is() -> None:
    info = SimulatedBackend(0, 0, max_batch=5).start()
    assert (info.backend, info.model.size_multiple, info.max_batch) == ("simulated", 8, 5)


def test_a_run_begun_behind_another_starts_where_that_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("server.backends.simulated.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("server.backends.simulated.time.sleep", sleep)
    backend = SimulatedBackend(base_ms=2000, ms_per_megapixel=0, max_batch=2)
    first, second = backend.begin(ModelInput(_batch(1))), backend.begin(ModelInput(_batch(2)))
    with pytest.raises(BackendError, match="another run was begun while 2 were"):
        backend.begin(ModelInput(_batch()))
    assert (len(first.result().pixels), len(second.result().pixels)) == (1, 2)
    assert slept == pytest.approx([2, 2])
    backend.run(ModelInput(_batch()))
    assert now[0] == pytest.approx(106)


def test_a_wait_is_over_with_the_run_or_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("server.backends.simulated.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("server.backends.simulated.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    run = SimulatedBackend(base_ms=2000, ms_per_megapixel=0, max_batch=2).begin(ModelInput(_batch()))
    run.wait(-1.0)
    run.wait(0.5)
    assert now[0] == pytest.approx(100.5)
    run.wait(10.0)
    assert now[0] == pytest.approx(102)
    run.result()
    assert now[0] == pytest.approx(102)


def test_every_run_is_logged_at_its_end_for_another_process_to_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    backend = SimulatedBackend(base_ms=2, ms_per_megapixel=0, max_batch=4, run_log=path)
    backend.start()
    assert path.read_text() == "start,end,images,pixels\n"
    first, second = backend.begin(ModelInput(_batch(3))), backend.begin(ModelInput(_batch(1, 16)))
    first.result()
    assert len(path.read_text().splitlines()) == 2  # read while it is open, so it was flushed
    second.result()
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [row[2:] for row in rows] == [["3", "192"], ["1", "128"]]
    (began, ended), (next_began, next_ended) = ([float(value) for value in row[:2]] for row in rows)
    assert ended - began == pytest.approx(0.002, abs=2e-6)
    assert next_began == ended  # it was begun behind the first
    assert next_ended - next_began == pytest.approx(0.002, abs=2e-6)
    backend.stop()


def test_a_log_is_continued_after_a_restart_and_by_a_second_device(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    one, other = (SimulatedBackend(0, 0, max_batch=1, run_log=path) for _ in range(2))
    one.start()
    other.start()
    one.run(ModelInput(_batch()))
    one.stop()
    one.start()
    other.run(ModelInput(_batch()))
    one.run(ModelInput(_batch()))
    one.stop()
    other.stop()
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert lines.count("start,end,images,pixels") == 1


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="log of simulated runs"):
        SimulatedBackend(0, 0, max_batch=1, run_log=tmp_path / "missing" / "runs.csv").start()


def test_devices_that_start_together_write_one_header(tmp_path: Path) -> None:
    for attempt in range(20):
        path, together = tmp_path / f"{attempt}.csv", threading.Barrier(8)

        def start(path: Path = path, together: threading.Barrier = together) -> None:
            backend = SimulatedBackend(0, 0, max_batch=1, run_log=path)
            together.wait()
            backend.start()
            backend.stop()

        starting = [threading.Thread(target=start) for _ in range(8)]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert len(path.read_text().splitlines()) == 1
