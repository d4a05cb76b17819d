"""Tally: how the errands of a run have ended, told while it runs and at its end."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Never, Self, TextIO

from tqdm import tqdm

from server.cli.restore.inputs import Errand
from server.cli.restore.lists import line_of, shown

# More would scroll the summary away; a file holds them all.
SHOWN_FAILURES = 20


class Tally:
    """Counts, draws the progress bar and writes failures down as they happen, so that a killed run has them too.

    `failures` is a file of a source, a tab and a reason a line, which `--list` reads; None for none.
    """

    def __init__(self, total: int, skipped: int, failures: Path | None) -> None:
        self.total = total
        self.skipped = skipped
        self.restored = 0
        self.failed = 0
        self._last: Path | None = None
        self._first: list[tuple[str, str]] = []
        self._path = failures
        self._file: TextIO | None = None
        self._began = time.monotonic()
        self._bar: tqdm[Never] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        self._began = time.monotonic()
        # Hidden where there is no terminal: a log wants the summary, not the bar. What was skipped took no time.
        self._bar = tqdm(total=self.total, initial=self.skipped, unit="image", disable=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.close()

    @property
    def left(self) -> int:
        """Photos that nothing has become of."""
        return self.total - self.skipped - self.restored - self.failed

    def done(self, errand: Errand) -> None:
        """One photo is restored and its file is there."""
        self.restored += 1
        self._last = errand.target
        self._update()

    def fail(self, errand: Errand, reason: str) -> None:
        """One photo has no result."""
        self.failed += 1
        reason = " ".join(reason.split())
        if len(self._first) < SHOWN_FAILURES:
            self._first.append((errand.source, reason))
        if self._file is not None:
            self._file.write(f"{line_of(errand.source)}\t{reason}\n")
            self._file.flush()
        self._update()

    def report(self) -> None:
        """Print the summary to the standard error; of one photo alone where it is."""
        if self.total == 1 and self.restored and self._last is not None:
            print(f"promptir: restored to {shown(str(self._last))}", file=sys.stderr)
        elif self.total > 1 or self.left or self.skipped:
            seconds = time.monotonic() - self._began
            counts = {"restored": self.restored, "skipped": self.skipped, "failed": self.failed, "left": self.left}
            words = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "restored")
            rate = f"{self.restored / seconds:.2f} images/s" if seconds > 0 else "at once"
            print(f"promptir: {words} of {self.total} images in {seconds:.1f} s ({rate})", file=sys.stderr)
        if self.failed:
            print(f"promptir: {self.failed} of {self.total} images failed:", file=sys.stderr)
            for source, reason in sorted(self._first):
                print(f"  {shown(source)}: {shown(reason)}", file=sys.stderr)
            if (unseen := self.failed - len(self._first)) > 0:
                where = f"{self._path} has them all" if self._path else "--failures FILE takes them all"
                print(f"  and {unseen} more; {where}", file=sys.stderr)

    def _update(self) -> None:
        if self._bar is not None:
            self._bar.update()
