"""Wakes the subscribers of a job when its state changes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Notifier:
    """Keeps one event per subscriber of each job; a woken subscriber then reads the new state.

    A slow subscriber therefore skips outdated states and needs no buffer. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def subscribe(self, id_: str) -> Iterator[asyncio.Event]:
        """Return an event that is set at each change of the job; the subscriber clears it."""
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(id_, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers and self._watchers.get(id_) is watchers:
                del self._watchers[id_]

    def notify(self, *ids: str | None) -> None:
        """Wake every subscriber of a job, or of several; None is nobody's."""
        for id_ in ids:
            for changed in self._watchers.get(id_ or "", ()):
                changed.set()
