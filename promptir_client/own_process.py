"""Own process: connections that a forked process opens anew, since it must not share those of its parent."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OwnProcess(Generic[T]):
    """Holds an object for one process; after a fork `get` makes a new one.

    Two processes that write to one socket read each other's answers. `given` is the caller's own and cannot be made
    again: in another process `get` raises RuntimeError.
    """

    def __init__(self, make: Callable[[], T], *, given: bool) -> None:
        self._make = make
        self._given = given
        self._held = make()
        self._process = os.getpid()
        # Never closed here: over TLS that would end the connections of the parent as well.
        self._inherited: list[T] = []

    def get(self) -> T:
        """What belongs to this process."""
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
        """What is to be closed at the end: nothing of another process or of the caller's."""
        return None if self._given or self._process != os.getpid() else self._held
