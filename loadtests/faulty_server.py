"""`promptir serve` on a simulated device that fails, with a wall clock that can be shifted.

Run `python loadtests/faulty_server.py [--clock FILE] FAULT SHARE LOG -- [flags of promptir serve]`. SHARE of the runs
fail, each logged as a line in LOG. FILE holds the current shift of the wall clock in seconds.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from server.backends.base import Pending, Pixels
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendLost, DeviceOutOfMemory

HANG_S = 3.0
"""Longer than the server's run_timeout_s. The run returns afterwards, and its output must not reach any client."""
SEED = 7
WARM_UP_GREY = np.float32(0.5)


class FaultyBackend(SimulatedBackend):
    """Simulated device on which a random `share` of the runs ends with `fault`."""

    def __init__(self, fault: "Fault", share: float, log: Path, *, max_batch: int, device: str) -> None:
        super().__init__(base_ms=4.0, ms_per_megapixel=20.0, max_batch=max_batch, device=device, can_mask=True)
        self._fault = fault
        self._gap = round(1 / share) if share else 0
        self._log = log
        self._random = random.Random(f"{SEED} {device} {time.monotonic_ns()}")
        self._sound_runs = self._random.randint(0, self._gap)

    def begin(self, batch: Pixels, *more: Any) -> Pending:
        """Start a run whose result may be faulty."""
        return _FaultyRun(super().begin(batch, *more), self)

    def run(self, batch: Pixels, *more: Any) -> Pixels:
        """Run a batch, with a result that may be faulty."""
        return self.begin(batch, *more).result()

    def spoil(self, output: Pixels) -> Pixels:
        """Return the output, or its faulty version."""
        # Uniform grey marks the warm-up: a device that fails then does not start, which is not tested here.
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

    def result(self) -> Pixels:
        output = self._sound.result()
        try:
            return self._device.spoil(output)
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
        raise DeviceOutOfMemory("injected: no room for several images")
    return output


def _not_finite(output: Pixels) -> Pixels:
    output[-1, 0, 0, 0] = np.nan  # one sample of one image; its neighbours stay valid
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
    """Run the server and return the exit code of `promptir serve`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("share", type=float)
    parser.add_argument("log", type=Path)
    parser.add_argument("--clock", type=Path)
    parser.add_argument("serve", nargs="*", metavar="FLAG")
    arguments = parser.parse_args()
    if arguments.clock is not None:
        _bend_the_clock(arguments.clock)
    from server import backends, cli
    from server.settings import BackendSettings

    def create(_: BackendSettings, max_batch: int, device: str) -> FaultyBackend:
        fault = FAULTS[arguments.fault]
        return FaultyBackend(fault, arguments.share, arguments.log, max_batch=max_batch, device=device)

    backends.create = create
    sys.argv = ["promptir", "serve", *arguments.serve]
    return int(cli.main())


def _bend_the_clock(file: Path) -> None:
    # Before any import of the server, which captures time.time as a default argument.
    real = time.time
    time.time = lambda: real() + float(file.read_text() or 0)


if __name__ == "__main__":
    sys.exit(main())
