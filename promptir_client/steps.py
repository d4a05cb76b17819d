"""Steps: what a flow asks of the client that runs it, and what it is told; the seam between logic and waiting."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` is relative to the server's URL."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and read the answer: a Reply or a Lost."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Listen:
    """The same, but of a 200 the content stays on the connection, for NextLine."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class NextLine:
    """Read a line of what Listen opened: text, None at its end, or a Lost where it is silent for Listen's time."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer, or not all of it; `sent` where the server may have seen the request, `late` where time ran out."""

    reason: str
    sent: bool
    late: bool = False


Step = Send | Listen | NextLine | Pause
Outcome = Reply | Lost | str | None
Flow = Generator[Step, Outcome, T]
"""Yields steps, is sent their outcomes, returns what the caller wants: runs under both clients."""
