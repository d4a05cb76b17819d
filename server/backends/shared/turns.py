"""Turns: one backend of a device runs at a time, in the order of arrival."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is given in the order in which it was asked for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = 0
        self._given = 0

    @property
    def are_wanted(self) -> bool:
        """Whether another thread waits for its turn."""
        return self._asked - self._given > 1

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a turn, and end it with the block."""
        with self._changed:
            own = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._given == own)
        try:
            yield
        finally:
            with self._changed:
                self._given += 1
                self._changed.notify_all()
