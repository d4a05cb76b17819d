"""Faulty server: unmodified `promptir serve` with a failing simulated device and an adjustable clock.

Run as `python loadtests/faulty_server.py [--clock FILE] FAULT SHARE LOG -- [flags of promptir serve]`. SHARE is the
fraction of runs that fail; each failure is written as a line to LOG. FILE contains the current offset of the wall
clock in seconds.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.backends.base import ModelInput, Pending, Pixels, Result
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendLost, DeviceOutOfMemory

HANG_S = 3.0
"""Longer than the server's run_timeout_s; no client may receive the output that the run then returns."""
SEED = 7
WARM_UP_GREY = np.float32(0.5)


class FaultyBackend(SimulatedBackend):
    """Simulated device on which a random fraction `share` of the runs ends with `fault`."""

    def __init__(self, fault: "Fault", share: float, log: Path, *, max_batch: int, device: str) -> None:
        super().__init__(base_ms=4.0, ms_per_megapixel=20.0, max_batch=max_batch, device=device, mixed_sizes=True)
        self._fault = fault
        self._gap = round(1 / share) if share else 0
        self._log = log
        self._random = random.Random(f"{SEED} {device} {time.monotonic_ns()}")
        self._sound_runs = self._random.randint(0, self._gap)

    def begin(self, batch: ModelInput) -> Pending:
        """Begin a run whose result may be a fault."""
        return _FaultyRun(super().begin(batch), self)

    def run(self, batch: ModelInput) -> Result:
        """Run a batch, with the same faults."""
        return self.begin(batch).result()

    def spoil(self, output: Pixels) -> Pixels:
        """Apply the fault to the output: change it or raise."""
        # Warm-up images are grey and are left alone, since a device that fails during warm-up does not start.
        is_warm_up = np.isin(output, (0.0, WARM_UP_GREY)).all()
        if is_warm_up or not self._gap:
            return output
        self._sound_runs -= 1
        if self._sound_runs >= 0:
            return output
        self._sound_runs = self._random.randint(0, 2 * (self._gap - 1))
        spoilt = self._fault(output)
        self.note()
        return spoilt

    def note(self) -> None:
        """Log an injected fault."""
        with self._log.open("a", encoding="ascii") as log:
            log.write("fault\n")


class _FaultyRun:
    def __init__(self, sound: Pending, device: FaultyBackend) -> None:
        self._sound = sound
        self._device = device

    def wait(self, seconds: float) -> None:
        self._sound.wait(seconds)

    def result(self) -> Result:
        result = self._sound.result()
        try:
            return replace(result, pixels=self._device.spoil(result.pixels))
        except BaseException:
            self._device.note()
            raise


Fault = Callable[[Pixels], Pixels]


def _raises(error: Callable[[], BaseException]) -> Fault:
    def fault(_: Pixels) -> Pixels:
        raise error()

    return fault


def _out_of_memory(output: Pixels) -> Pixels:
    if len(output) > 1:
        raise DeviceOutOfMemory("injected: no memory for more than one image")
    return output


def _not_finite(output: Pixels) -> Pixels:
    output[-1, 0, 0, 0] = np.nan  # one sample of one image; the other images are correct
    return output


def _hang(output: Pixels) -> Pixels:
    time.sleep(HANG_S)
    return np.zeros_like(output)


FAULTS: dict[str, Fault] = {
    "none": lambda output: output,
    "error": _raises(lambda: BackendError("injected: the run failed")),
    "out-of-memory": _out_of_memory,
    "not-finite": _not_finite,
    "wrong-shape": lambda output: output[:, :, :-1],
    "lost": _raises(lambda: BackendLost("injected: the device is gone")),
    "thread": _raises(SystemExit),
    "hang": _hang,
}


def main() -> int:
    """Serve and return the exit code of `promptir serve`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("share", type=float)
    parser.add_argument("log", type=Path)
    parser.add_argument("--clock", type=Path)
    parser.add_argument("serve", nargs="*", metavar="FLAG")
    arguments = parser.parse_args()
    if arguments.clock is not None:
        _patch_clock(arguments.clock)
    from server import backends, cli
    from server.settings import BackendSettings

    def create(_: BackendSettings, max_batch: int, device: str) -> FaultyBackend:
        fault = FAULTS[arguments.fault]
        return FaultyBackend(fault, arguments.share, arguments.log, max_batch=max_batch, device=device)

    backends.create = create
    sys.argv = ["promptir", "serve", *arguments.serve]
    return int(cli.main())


def _patch_clock(file: Path) -> None:
    # Called before the server is imported, because it uses time.time as a default argument.
    real = time.time
    time.time = lambda: real() + float(file.read_text() or 0)


if __name__ == "__main__":
    sys.exit(main())
