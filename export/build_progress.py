"""Progress bars for the phases of a TensorRT build."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm


class BuildProgress:
    """Progress bars of the active phases, nested phases below their parents; drawn on terminals only."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bars: dict[str, tqdm[Any]] = {}
        self.cancelled = False

    def start(self, phase: str, steps: int) -> None:
        """Show a progress bar for a phase with `steps` steps."""
        # disable=None draws on terminals only, to keep carriage returns out of log files
        self._bars[phase] = tqdm(
            desc=phase, total=steps, file=self._stream, position=len(self._bars), leave=False, disable=None
        )

    def step(self, phase: str) -> bool:
        """Advance the bar of a phase; return False to make the builder stop."""
        if phase in self._bars:
            self._bars[phase].update()
        return not self.cancelled

    def finish(self, phase: str) -> None:
        """Remove the bar of a phase."""
        if phase in self._bars:
            self._bars.pop(phase).close()

    @contextmanager
    def cancelled_by_interrupt(self) -> Iterator[None]:
        """Make Ctrl-C stop the builder while the block runs; raise `KeyboardInterrupt` afterwards.

        A callback may not raise, because the library does not propagate exceptions.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set signal handlers and receives interrupts
            return

        def cancel(*_: object) -> None:
            self.cancelled = True

        previous = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
            for phase in tuple(self._bars):
                self.finish(phase)
        if self.cancelled:
            raise KeyboardInterrupt


def create_progress_monitor(trt: Any, progress: BuildProgress) -> Any:
    """Create an `IProgressMonitor` of the library `trt` that reports to `progress`."""

    class ProgressMonitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return ProgressMonitor()
