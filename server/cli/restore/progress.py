"""Progress and summary of a restore run."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Never, Self, TextIO

from tqdm import tqdm

from server.cli.restore.inputs import Input
from server.cli.restore.lists import line_of, shown

# More would scroll the summary off the screen; the failures file has all of them.
SHOWN_FAILURES = 20


class Progress:
    """Counts results, draws the progress bar and writes failures as they happen, so that a killed run keeps them.

    `failures` is a file with one source, tab and reason per line, which `--list` can read; None writes none.
    """

    def __init__(self, total: int, skipped: int, failures: Path | None) -> None:
        self.total = total
        self.skipped = skipped
        self.restored = 0
        self.failed = 0
        self._last = ""
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
        # Hidden without a terminal, since a log needs only the summary. Skipped photos are initial: they took no time.
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
        """Number of photos not processed yet."""
        return self.total - self.skipped - self.restored - self.failed

    def done(self, item: Input, verdict: str) -> None:
        """Count a restored photo whose file is written; on a terminal, say what was done to it."""
        self.restored += 1
        self._last = f"{verdict}; written to {item.destination}"
        if self.total > 1 and self._bar is not None and not self._bar.disable:
            self._bar.write(f"{shown(item.source)}: {verdict}", file=sys.stderr)
        self._update()

    def fail(self, item: Input, reason: str) -> None:
        """Count a failed photo and write its reason."""
        self.failed += 1
        reason = " ".join(reason.split())
        if len(self._first) < SHOWN_FAILURES:
            self._first.append((item.source, reason))
        if self._file is not None:
            self._file.write(f"{line_of(item.source)}\t{reason}\n")
            self._file.flush()
        self._update()

    def report(self) -> None:
        """Print the summary to standard error; for a single photo, what was done to it and the path of its result."""
        if self.total == 1 and self.restored:
            print(f"promptir: {shown(self._last)}", file=sys.stderr)
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
                where = f"{self._path} lists all" if self._path else "--failures FILE would list all"
                print(f"  and {unseen} more; {where}", file=sys.stderr)

    def _update(self) -> None:
        if self._bar is not None:
            self._bar.update()
