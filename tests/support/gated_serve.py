"""Run `promptir serve` with a simulated device whose runs go on while a file exists: FILE [FLAG ...].

The removal of the file ends all runs, and that of a file beside it, FILE.one, the run that removes it.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from server import cli
from server.backends.base import BackendInfo, ModelInput, Result
from server.backends.simulated import SimulatedBackend

POLL_S = 0.005
WARM_UP_GREY = np.float32(0.5)


def hold_runs(gate: Path) -> None:
    """Make simulated devices hold all runs but those of the warm-up, whose images are grey with black padding."""
    start, run = SimulatedBackend.start, SimulatedBackend.run
    one = gate.with_name(f"{gate.name}.one")

    def start_without_begin(backend: SimulatedBackend) -> BackendInfo:
        return replace(start(backend), can_begin_ahead=False)  # all runs must go through the one below

    def held(backend: SimulatedBackend, batch: ModelInput) -> Result:
        result = run(backend, batch)
        is_warm_up = batch.pixels.any() and np.isin(batch.pixels, (0.0, WARM_UP_GREY)).all()
        while gate.exists() and not is_warm_up:
            try:
                one.unlink()
                break
            except FileNotFoundError:
                time.sleep(POLL_S)
        return result

    SimulatedBackend.start = start_without_begin  # type: ignore[method-assign]
    SimulatedBackend.run = held  # type: ignore[method-assign]


if __name__ == "__main__":
    hold_runs(Path(sys.argv.pop(1)))
    sys.argv.insert(1, "serve")
    sys.exit(cli.main())
