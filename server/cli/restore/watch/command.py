"""Runs `promptir restore --watch` with its signals, messages and exit code."""

import asyncio
import signal
import sys
from contextlib import closing
from pathlib import Path
from types import FrameType

from server.cli.restore.files import sweep
from server.cli.restore.lists import line_of, shown
from server.cli.restore.targets import RestoreTarget, RunEnded
from server.cli.restore.watch.arrivals import Arrivals
from server.cli.restore.watch.journal import Journal
from server.cli.restore.watch.watcher import Report, Watcher
from server.errors import InvalidRequest
from server.formats.output import OutputFormat
from server.restore.options import RestoreOptions

FAILURES = "failures.txt"
_STOPPED_BY = {signal.SIGTERM: 0, signal.SIGINT: 130}
"""Exit codes: being told to stop is the normal end, Ctrl-C has the shells' code."""


def watch(
    folder: Path,
    out: Path,
    target: RestoreTarget,
    output: OutputFormat,
    options: RestoreOptions,
    *,
    failures: Path | None,
    settle_s: float,
    jobs: int,
    overwrite: bool,
    max_upload_bytes: int,
) -> int:
    """Watch `folder` until SIGTERM or Ctrl-C; returns the exit code. Raises InvalidRequest for unusable folders."""
    _check_folders(folder, out)
    journal = Journal(out)
    arrivals = Arrivals(folder, out, settle_s, journal.is_settled)
    with closing(journal):
        journal.open()
        sweep({out, *(path for path in out.rglob("*") if path.is_dir())})
        watcher = Watcher(
            arrivals,
            journal,
            target,
            out,
            output,
            options,
            _report(failures or out / FAILURES),
            jobs=jobs,
            overwrite=overwrite,
            max_upload_bytes=max_upload_bytes,
        )
        try:
            return asyncio.run(_watch(watcher, target, f"watching {folder}; results go to {out}"))
        except RunEnded as ended:
            print(f"promptir: {ended}", file=sys.stderr)
            return 1


async def _watch(watcher: Watcher, target: RestoreTarget, greeting: str) -> int:
    loop, codes = asyncio.get_running_loop(), list[int]()
    signal.signal(signal.SIGIO, _ignored)  # the kernel tells that somebody wants to write a file that is being read

    def stop(number: signal.Signals) -> None:
        for known in _STOPPED_BY:
            loop.remove_signal_handler(known)  # a second one ends the process at once
        codes.append(_STOPPED_BY[number])
        watcher.stop()

    for number in _STOPPED_BY:
        loop.add_signal_handler(number, stop, number)
    async with target:
        print(f"promptir: {shown(greeting)}", file=sys.stderr, flush=True)
        await watcher.run()
    return codes[0] if codes else 0


def _ignored(number: int, frame: FrameType | None) -> None:
    """Ignore a signal; an action that is inherited as `ignore` would reach child processes."""


def _check_folders(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} cannot be watched: it is not a folder")
    if out.exists() and not out.is_dir():
        raise InvalidRequest(f"{out} is a file: --watch needs a folder for the results")
    if folder.resolve() == out.resolve():
        raise InvalidRequest(f"{folder} is both FOLDER and OUT: results would be taken for new photos")
    if folder.resolve().is_relative_to(out.resolve()):
        raise InvalidRequest(f"{folder} lies in {out}: results would be taken for new photos")


def _report(failures: Path) -> Report:
    def said(sentence: str) -> None:
        print(f"promptir: {shown(sentence)}", file=sys.stderr, flush=True)

    def failed(place: str, reason: str) -> None:
        reason = " ".join(reason.split())
        said(f"{place} failed: {reason}")
        try:
            with failures.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{line_of(place)}\t{reason}\n")
        except OSError as error:  # the journal has it
            said(f"{failures} cannot be written: {error.strerror}")

    def done(place: str, verdict: str, destination: str) -> None:
        said(f"{place}: {verdict}; written to {destination}")

    return Report(done, failed, said)
