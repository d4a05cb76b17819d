"""The build progress: one bar for each phase of a running build."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm


class BuildProgress:
    """The bars of the phases under way; a phase inside another one has its bar below it. Silent where no one looks."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bars: dict[str, tqdm[Any]] = {}
        self.cancelled = False

    def start(self, phase: str, steps: int) -> None:
        """Show a bar for a phase of so many steps."""
        # disable=None draws on a terminal only: a log file gets no carriage returns
        self._bars[phase] = tqdm(
            desc=phase, total=steps, file=self._stream, position=len(self._bars), leave=False, disable=None
        )

    def step(self, phase: str) -> bool:
        """Advance the bar of a phase; False asks the builder to stop."""
        if phase in self._bars:
            self._bars[phase].update()
        return not self.cancelled

    def finish(self, phase: str) -> None:
        """Take the bar of a phase away."""
        if phase in self._bars:
            self._bars.pop(phase).close()

    @contextmanager
    def cancelled_by_interrupt(self) -> Iterator[None]:
        """While the block runs, Ctrl-C asks the builder to stop; `KeyboardInterrupt` is raised once it has.

        An exception raised inside a callback would have to cross the library, which is not written for that.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set signal handlers, and it alone sees an interrupt
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
    """An `IProgressMonitor` of the library `trt` that reports to `progress`."""

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
