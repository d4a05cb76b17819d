"""The simulated backend: an identity that takes a known time."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from server.backends.base import BackendInfo, Pending, Pixels, PromptWeights, Sizes
from server.errors import BackendError, BackendUnavailable

SIZE_MULTIPLE = 8
PROMPT_SHAPE = (3, 5)
LABELS = ("noise", "haze")
FINDINGS_SHAPE = (PROMPT_SHAPE[0] + 1, PROMPT_SHAPE[1])
MOST_BEGUN = 2
RUN_LOG_HEADER = "start,end,images,pixels\n"


class SimulatedBackend:
    """Behaves like a device: one run at a time, a duration by the pixels of the batch, a largest batch.

    A run takes base_ms + ms_per_megapixel * N * H * W / 1e6 milliseconds of wall time and answers with a copy. One
    that is begun while another goes on starts where that one ends. Of an image's prompt weights the first of each level
    is the red of its first pixel, and the others share the rest.

    With `run_log` every run that has ended is a line `start,end,images,pixels` at the end of that file: when the device
    was busy, in seconds of time.perf_counter (one clock for all processes of a machine on Linux), and the images and
    the pixels of its batch. Each line is out before the result is.
    """

    def __init__(
        self,
        base_ms: float,
        ms_per_megapixel: float,
        max_batch: int,
        *,
        device: str = "simulated",
        run_log: Path | None = None,
        can_mask: bool = False,
    ) -> None:
        self._base_ms = base_ms
        self._ms_per_megapixel = ms_per_megapixel
        self._max_batch = max_batch
        self._device = device
        self._run_log = run_log
        self._can_mask = can_mask
        self._lines: TextIO | None = None
        self._caller = threading.Lock()
        self._begun = 0
        self._free_at = 0.0

    def start(self) -> BackendInfo:
        if self._run_log is not None and self._lines is None:
            self._lines = _open_log(self._run_log)
        return BackendInfo(
            backend="simulated",
            device=self._device,
            artifact="identity",
            precision="fp32",
            size_multiple=SIZE_MULTIPLE,
            max_batch=self._max_batch,
            can_begin_ahead=True,
            can_mask=self._can_mask,
            prompt_shape=FINDINGS_SHAPE,
            degradation_labels=LABELS,
        )

    def run(self, batch: Pixels, weights: PromptWeights | None = None) -> Pixels:
        """Return a copy of (N, 3, H, W); BackendError for what a real device would refuse."""
        with self._one_caller():
            return self._finish(self._begin(batch, weights))

    def begin(self, batch: Pixels, weights: PromptWeights | None = None) -> Pending:
        """Put a run behind the one that goes on, if any; BackendError as `run`, and for a third run."""
        with self._one_caller():
            return self._begin(batch, weights)

    def run_masked(self, batch: Pixels, sizes: Sizes, weights: PromptWeights | None = None) -> Pixels:
        """As `run`: an identity of images in a padded shape is one of the padded shape, and takes as long."""
        return self.run(batch, weights)

    def begin_masked(self, batch: Pixels, sizes: Sizes, weights: PromptWeights | None = None) -> Pending:
        return self.begin(batch, weights)

    def duration_s(self, shape: tuple[int, ...]) -> float:
        """Seconds that a run of (N, 3, H, W) takes."""
        megapixels = shape[0] * shape[2] * shape[3] / 1e6
        return (self._base_ms + self._ms_per_megapixel * megapixels) / 1e3

    def stop(self) -> None:
        self._begun = 0
        self._free_at = 0.0
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _begin(self, batch: Pixels, weights: PromptWeights | None) -> "_SimulatedRun":
        began = time.perf_counter()
        if batch.ndim != 4 or batch.shape[1] != 3 or batch.shape[2] % SIZE_MULTIPLE or batch.shape[3] % SIZE_MULTIPLE:
            raise BackendError(f"a batch is (N, 3, H, W) with sides of multiples of {SIZE_MULTIPLE}, not {batch.shape}")
        if len(batch) > self._max_batch:
            raise BackendError(f"a batch of {len(batch)} exceeds the largest batch of {self._max_batch}")
        if self._begun == MOST_BEGUN:
            raise BackendError(f"another run was begun while {MOST_BEGUN} were")
        output = batch.copy()
        if weights is not None:
            red = batch[:, 0, 0, 0, np.newaxis]  # the same for each level
            weights[:, :-1, 0], weights[:, :-1, 1:] = red, ((1 - red) / (PROMPT_SHAPE[1] - 1))[..., np.newaxis]
            weights[:, -1] = 0
            weights[:, -1, 0], weights[:, -1, 1] = red[:, 0], 1 - red[:, 0]
        starts_at = max(began, self._free_at)
        self._free_at = starts_at + self.duration_s(batch.shape)
        self._begun += 1
        return _SimulatedRun(self, output, starts_at, self._free_at)

    def _finish(self, run: "_SimulatedRun") -> Pixels:
        remaining_s = run.ends_at - time.perf_counter()
        if remaining_s > 0:
            time.sleep(remaining_s)
        self._begun -= 1
        if self._lines is not None:
            images, _, height, width = run.output.shape
            self._lines.write(f"{run.starts_at:.6f},{run.ends_at:.6f},{images},{images * height * width}\n")
        return run.output

    @contextmanager
    def _one_caller(self) -> Iterator[None]:
        if not self._caller.acquire(blocking=False):
            raise BackendError("a second run began while one was running")
        try:
            yield
        finally:
            self._caller.release()


@dataclass(frozen=True, slots=True)
class _SimulatedRun:
    """A copy of the input, and when the device begins it and has it ready, in seconds of time.perf_counter."""

    device: SimulatedBackend
    output: Pixels
    starts_at: float
    ends_at: float

    def wait(self, seconds: float) -> None:
        remaining_s = min(seconds, self.ends_at - time.perf_counter())
        if remaining_s > 0:
            time.sleep(remaining_s)

    def result(self) -> Pixels:
        with self.device._one_caller():
            return self.device._finish(self)


def _open_log(path: Path) -> TextIO:
    # Line by line, in append mode: another process may read it meanwhile, and several devices may share it.
    try:
        lines = path.open("a", buffering=1, encoding="ascii")
    except OSError as error:
        raise BackendUnavailable(f"the log of simulated runs cannot be written: {error}") from error
    fcntl.flock(lines, fcntl.LOCK_EX)  # devices that start together would each find it empty
    if os.fstat(lines.fileno()).st_size == 0:
        lines.write(RUN_LOG_HEADER)
    fcntl.flock(lines, fcntl.LOCK_UN)
    return lines
