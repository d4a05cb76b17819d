"""Retry policy: which failures are retried, and after what pause."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from promptir_client.errors import Problem, PromptIRError, TooManyRequests, Unavailable, Unreachable

# The only failure of a run that is worth a retry: its device was lost, and another one may work.
_LOST = "backend-lost"


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `attempts`, with pauses that double from `first_s` to `longest_s`, randomly shortened by up to half.

    After `Retry-After` follows a random extra delay, so that clients refused at the same moment do not all return at
    once.
    """

    attempts: int = 8
    first_s: float = 0.5
    longest_s: float = 30.0
    random: Callable[[], float] = random.random

    def pause_s(self, error: PromptIRError, attempt: int, *, repeatable: bool = True) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt` (from 1); None if it is not worth retrying.

        A request that is not `repeatable` is sent again only if the server cannot have accepted it.
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
