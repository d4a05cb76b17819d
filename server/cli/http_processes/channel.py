"""What an HTTP process and its parent say to each other, through two pipes: each side asks through one of them."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

PATIENCE_S = 5.0
"""The longest wait for an answer."""
PAGE_PATIENCE_S = 2.0
"""The longest wait for the page of one process, which is part of the answer with the page of all."""


@dataclass(frozen=True)
class Failed:
    """The process cannot serve; says why."""

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
        self._asking = threading.Lock()
        self._sending = threading.Lock()
        self._is_owed = False
        """Whether the answer to the last question came too late, or has not come."""

    def tell(self, message: object) -> None:
        """Send a message without an answer; in vain if the other process has ended."""
        with self._sending, suppress(OSError):
            self._connection.send(message)

    def ask(self, question: object, patience_s: float = PATIENCE_S) -> Any:
        """Send a question and return the answer; raises Unanswered, at once while an earlier one is unanswered."""
        with self._asking:
            try:
                if self._is_owed and not self._received(0.0):
                    raise Unanswered  # more questions would fill the pipe of a process that hangs
                with self._sending:
                    self._connection.send(question)
                self._is_owed = True
                if answers := self._received(patience_s):
                    return answers[0]
            except (OSError, EOFError) as error:
                raise Unanswered from error
        raise Unanswered

    def _received(self, seconds: float) -> list[Any]:
        """Wait for the answer; returns no item if it does not come in time."""
        if not self._connection.poll(seconds):
            return []
        answer = self._connection.recv()
        self._is_owed = False
        return [answer]
