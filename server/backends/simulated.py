"""The simulated backend: returns its input after a known time."""

import fcntl
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from pydantic import Field

from models.artifact import DEFAULT_ARTIFACT
from server.backends.base import Aux, AuxOutput, BackendInfo, ModelInput, ModelSpec, Pending, Pixels, Result
from server.backends.kind import BackendKind
from server.backends.settings import RuntimeSettings
from server.errors import BackendError, BackendUnavailable

NAME = "identity"
SIZE_MULTIPLE = 8
LEVELS, COMPONENTS = 3, 5
AUX = AuxOutput((LEVELS + 1, COMPONENTS), ("noise", "haze"))
# The second output for a first pixel without red, and how it grows with red. In the rows of levels the first prompt has
# the red value and the others share the rest; in the last row noise has the red value and haze the rest.
_AT_RED_0 = np.array([[0, 0.25, 0.25, 0.25, 0.25]] * LEVELS + [[0, 1, 0, 0, 0]], np.float32)
_BY_RED = np.array([[1, 0, 0, 0, 0]] * (LEVELS + 1), np.float32) - _AT_RED_0
MOST_BEGUN = 2
RUN_LOG_HEADER = "start,end,images,pixels\n"


class SimulatedSettings(RuntimeSettings):
    """Settings of the simulated device."""

    simulated_base_ms: float = Field(default=2.0, ge=0, description="Fixed milliseconds of a simulated run.")
    simulated_ms_per_megapixel: float = Field(
        default=20.0, ge=0, description="Milliseconds of a simulated run for each megapixel of its batch."
    )
    simulated_mixed_sizes: bool = Field(
        default=False, description="Whether a simulated batch may hold images of several sizes."
    )
    simulated_run_log: Path | None = Field(
        default=None, description="A CSV file to which the simulated device appends a line for each run."
    )


class OneCaller:
    """A lock that refuses its second holder instead of making it wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise BackendError("a second run began while one was running")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class SimulatedBackend:
    """Behaves like a device: one run at a time, a duration that depends on the pixels of the batch, a largest batch.

    A run takes base_ms + ms_per_megapixel * N * H * W / 1e6 milliseconds of wall time and returns its input: the batch,
    which was made for the run, or a copy of a single image, which belongs to its sender. A run that is begun during
    another starts when that one ends. The first prompt weight of each level is the red value of the
    image's first pixel, and the others share the rest.

    With `run_log` each finished run appends a line `start,end,images,pixels` to that file before its result is
    returned: when the device was busy, in seconds of time.perf_counter (one clock for all processes of a machine on
    Linux), and the images and pixels of the batch.
    """

    def __init__(
        self,
        base_ms: float,
        ms_per_megapixel: float,
        max_batch: int,
        *,
        device: str = "simulated",
        run_log: Path | None = None,
        mixed_sizes: bool = False,
        name: str = NAME,
    ) -> None:
        self._base_ms = base_ms
        self._ms_per_megapixel = ms_per_megapixel
        self._max_batch = max_batch
        self._device = device
        self._run_log = run_log
        self._model = ModelSpec(name, "fp32", SIZE_MULTIPLE, mixed_sizes=mixed_sizes, aux=AUX)
        self._lines: TextIO | None = None
        self.one_caller = OneCaller()
        self._begun = 0
        self._free_at = 0.0

    def start(self) -> BackendInfo:
        if self._run_log is not None and self._lines is None:
            self._lines = _open_log(self._run_log)
        return BackendInfo(self._model, "simulated", self._device, self._max_batch, can_begin_ahead=True)

    def run(self, batch: ModelInput) -> Result:
        """Return the batch, or a copy of a single image; raises BackendError for what a real device would refuse."""
        with self.one_caller:
            return self._finish(self._begin(batch))

    def begin(self, batch: ModelInput) -> Pending:
        """Queue a run behind the current one, if any; raises as `run`, and BackendError for a third run."""
        with self.one_caller:
            return self._begin(batch)

    def duration_s(self, shape: tuple[int, ...]) -> float:
        """Return the seconds that a run of (N, 3, H, W) takes."""
        megapixels = shape[0] * shape[2] * shape[3] / 1e6
        return (self._base_ms + self._ms_per_megapixel * megapixels) / 1e3

    def stop(self) -> None:
        self._begun = 0
        self._free_at = 0.0
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _begin(self, batch: ModelInput) -> "_SimulatedRun":
        began = time.perf_counter()
        shape = batch.shape
        if len(shape) != 4 or shape[1] != 3 or shape[2] % SIZE_MULTIPLE or shape[3] % SIZE_MULTIPLE:
            raise BackendError(f"a batch is (N, 3, H, W) with sides of multiples of {SIZE_MULTIPLE}, not {shape}")
        if shape[0] > self._max_batch:
            raise BackendError(f"a batch of {shape[0]} exceeds the largest batch of {self._max_batch}")
        self._model.check(batch)
        if self._begun == MOST_BEGUN:
            raise BackendError(f"another run was begun while {MOST_BEGUN} were")
        output = batch.pixels if len(batch.pixels) > 1 else batch.pixels.copy()
        result = Result(output, _aux(batch.pixels))
        starts_at = max(began, self._free_at)
        self._free_at = starts_at + self.duration_s(shape)
        self._begun += 1
        return _SimulatedRun(self, result, starts_at, self._free_at)

    def _finish(self, run: "_SimulatedRun") -> Result:
        remaining_s = run.ends_at - time.perf_counter()
        if remaining_s > 0:
            time.sleep(remaining_s)
        self._begun -= 1
        if self._lines is not None:
            images, _, height, width = run.output.pixels.shape
            self._lines.write(f"{run.starts_at:.6f},{run.ends_at:.6f},{images},{images * height * width}\n")
        return run.output


@dataclass(frozen=True, slots=True)
class _SimulatedRun:
    """The result of a run, and when the device starts and ends it, in seconds of time.perf_counter."""

    device: SimulatedBackend
    output: Result
    starts_at: float
    ends_at: float

    def wait(self, seconds: float) -> None:
        remaining_s = min(seconds, self.ends_at - time.perf_counter())
        if remaining_s > 0:
            time.sleep(remaining_s)

    def result(self) -> Result:
        with self.device.one_caller:
            return self.device._finish(self)


def _aux(pixels: Pixels) -> Aux:
    return _AT_RED_0 + pixels[:, :1, 0, :1] * _BY_RED


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


def new_backend(settings: SimulatedSettings, max_batch: int, device: str) -> SimulatedBackend:
    """Make the simulated device that the settings describe."""
    return SimulatedBackend(
        settings.simulated_base_ms,
        settings.simulated_ms_per_megapixel,
        max_batch,
        device=device,
        run_log=settings.simulated_run_log,
        mixed_sizes=settings.simulated_mixed_sizes,
        name=model_name(settings),
    )


def model_name(settings: SimulatedSettings) -> str:
    """Return the name of the simulated model: that of its folder, which need not exist, if one is named."""
    return NAME if settings.artifact == DEFAULT_ARTIFACT else settings.artifact.name


KIND = BackendKind(
    name="simulated",
    new=new_backend,
    devices=r"[\w.:-]+",
    devices_in_words="any names of letters, digits and :",
    default_device=lambda settings: "sim:0",
    settings_type=SimulatedSettings,
    model_name=model_name,
)
