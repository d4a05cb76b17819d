"""Tests of reading the run log of a simulated device."""

from pathlib import Path

import numpy as np
import pytest

from server.backends.base import ModelInput
from server.backends.simulated import SimulatedBackend
from server.cli.bench.run_log import read_run_log
from server.errors import InvalidRequest

LOG = "start,end,images,pixels\n9.5,10.5,8,100\n10.5,12.5,4,100\n13,14.5,2,100\n15,16,1,100\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(LOG)
    return path


def test_runs_count_where_they_end_and_are_busy_where_they_are(log: Path) -> None:
    use = read_run_log(log, 10, 14)
    assert (use.runs, use.images, use.mean_batch) == (2, 12, 6)
    assert use.busy_share == pytest.approx((0.5 + 2 + 1) / 4)


def test_a_window_without_runs_has_no_mean_batch(log: Path) -> None:
    use = read_run_log(log, 20, 30)
    assert (use.runs, use.mean_batch, use.busy_share) == (0, None, 0)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "start,end,images,pixels\n1,2\n", "start,end,images,pixels\nx,2,3,4\n"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(InvalidRequest, match=r"other\.csv is not a log of simulated runs"):
        read_run_log(tmp_path / "other.csv", 0, 1)


def test_what_the_simulated_device_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    backend = SimulatedBackend(base_ms=1, ms_per_megapixel=0, max_batch=4, run_log=path)
    backend.start()
    for count in (4, 1, 1):
        backend.run(ModelInput(np.zeros((count, 3, 8, 8), np.float32)))
    use = read_run_log(path, 0, 1e12)
    assert (use.runs, use.images, use.mean_batch) == (3, 6, 2)
    backend.stop()
