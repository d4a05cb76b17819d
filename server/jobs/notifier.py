"""The Bell: wakes those who watch a job when there is news of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """One event for each watcher of each job; it says that there is news, and whoever wakes looks what it is.

    So a slow reader skips what is out of date, and holds no memory. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def watching(self, id_: str) -> Iterator[asyncio.Event]:
        """An event that is set at each news of the job, for the watcher to clear."""
        news = asyncio.Event()
        watchers = self._watchers.setdefault(id_, set())
        watchers.add(news)
        try:
            yield news
        finally:
            watchers.discard(news)
            if not watchers and self._watchers.get(id_) is watchers:
                del self._watchers[id_]

    def ring(self, id_: str) -> None:
        """There is news of this job."""
        for news in self._watchers.get(id_, ()):
            news.set()
