"""What an HTTP process and its parent say to each other, through two pipes: each side asks through one of them."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

State = Literal["listening", "ready"]
PATIENCE_S = 5.0
"""The longest wait for an answer: the event loop of an HTTP process never takes that long."""


@dataclass(frozen=True)
class Failed:
    """The process cannot go on, and no other could; says why."""

    reason: str


@dataclass(frozen=True)
class PageWanted:
    """Asks for a page of metrics."""

    is_openmetrics: bool


class Unanswered(Exception):  # noqa: N818 - named for what happened
    """The other process has ended, or does not answer in time."""


class Asker:
    """The asking end of a pipe; safe to use from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._asked = 0

    def tell(self, message: object) -> None:
        """Send a message without an answer; in vain if the other process has ended."""
        with self._lock, suppress(OSError):
            self._connection.send((None, message))

    def ask(self, question: object) -> Any:
        """Send a question and return the answer; raises Unanswered."""
        with self._lock:
            self._asked += 1
            try:
                self._connection.send((self._asked, question))
                while self._connection.poll(PATIENCE_S):
                    number, answer = self._connection.recv()
                    if number == self._asked:  # an earlier one came too late
                        return answer
            except (OSError, EOFError) as error:
                raise Unanswered from error
        raise Unanswered
