"""Separate connections for each process after a fork."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OwnProcess(Generic[T]):
    """Holder of one object per process; after a fork, `get` creates a new one.

    Processes that share a socket would read each other's responses. An object `given` by the caller cannot be
    recreated, so `get` raises RuntimeError in another process.
    """

    def __init__(self, make: Callable[[], T], *, given: bool) -> None:
        self._make = make
        self._given = given
        self._held = make()
        self._process = os.getpid()
        # Never closed here: over TLS this would also end the parent's connections.
        self._inherited: list[T] = []

    def get(self) -> T:
        """Return the object of this process."""
        if self._process != os.getpid():
            if self._given:
                raise RuntimeError(
                    f"the httpx client that was passed as `http` belongs to process {self._process}; after a fork its "
                    "connections must not be shared: create the client in each process"
                )
            self._inherited.append(self._held)
            self._held, self._process = self._make(), os.getpid()
        return self._held

    def to_close(self) -> T | None:
        """Return the object to close at the end; None if it belongs to another process or to the caller."""
        return None if self._given or self._process != os.getpid() else self._held
