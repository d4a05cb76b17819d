"""Tests of the build progress: bars on terminals, and Ctrl-C."""

import io
import signal

import pytest

from export.build_progress import BuildProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_the_phases() -> None:
    terminal = Terminal()
    progress = BuildProgress(terminal)
    progress.start("Building engine", 6)
    progress.start("Optimizing graph", 30)
    assert progress.step("Optimizing graph")
    progress.finish("Optimizing graph")
    progress.finish("Building engine")
    assert "Building engine:   0%" in terminal.getvalue()
    assert "Optimizing graph:" in terminal.getvalue()


def test_a_log_file_sees_nothing() -> None:
    log = io.StringIO()
    progress = BuildProgress(log)
    progress.start("Building engine", 6)
    progress.step("Building engine")
    progress.finish("Building engine")
    assert log.getvalue() == ""


def test_a_step_of_an_unknown_phase_is_no_reason_to_stop() -> None:
    assert BuildProgress(io.StringIO()).step("never started")


def test_an_interrupt_stops_the_build_at_its_next_step_and_is_raised_after_it() -> None:
    progress = BuildProgress(io.StringIO())
    before = signal.getsignal(signal.SIGINT)
    goes_on = []

    def build() -> None:
        with progress.cancelled_by_interrupt():
            progress.start("Building engine", 6)
            goes_on.append(progress.step("Building engine"))
            signal.raise_signal(signal.SIGINT)
            goes_on.append(progress.step("Building engine"))

    with pytest.raises(KeyboardInterrupt):
        build()
    assert goes_on == [True, False]
    assert signal.getsignal(signal.SIGINT) is before
