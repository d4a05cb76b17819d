"""Retries: whether a failed attempt is worth another one, and after how long."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from promptir_client.errors import Problem, PromptIRError, TooManyRequests, Unavailable, Unreachable

# The one failure of a run that says nothing about the image: its device was lost, and another one may serve.
_LOST = "backend-lost"


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `attempts` in a row; waits double from `first_s` up to `longest_s`, each shortened by up to a half.

    A server that says when to come back (`Retry-After`) is not asked earlier, and a little later at random: all those
    whom it refused at the same moment would otherwise return at the same moment.
    """

    attempts: int = 8
    first_s: float = 0.5
    longest_s: float = 30.0
    random: Callable[[], float] = random.random

    def pause_s(self, error: PromptIRError, attempt: int, *, repeatable: bool = True) -> float | None:
        """Seconds to wait after the failed attempt of this number, from 1; None where it is not worth another.

        A request that is not `repeatable` is sent again only where the server cannot have taken it.
        """
        if attempt >= self.attempts or not _is_passing(error, repeatable):
            return None
        backoff_s = min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))
        asked_s = error.retry_after_s if isinstance(error, Problem) else None
        if asked_s is None:
            return backoff_s * (1 - self.random() / 2)
        return asked_s + self.random() * max(self.first_s, asked_s / 4)


def _is_passing(error: PromptIRError, repeatable: bool) -> bool:
    if isinstance(error, Unreachable):
        return repeatable or not error.sent
    if isinstance(error, TooManyRequests | Unavailable):
        return True
    return repeatable and isinstance(error, Problem) and error.slug == _LOST
