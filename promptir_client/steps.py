"""Steps that a flow yields and outcomes that it receives, to separate logic from I/O."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """HTTP request; `path` is relative to the server's URL."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and read the response; the outcome is a Reply or a Lost."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Listen:
    """Send a request and, on status 200, leave the body on the connection for NextLine."""

    request: Request
    timeout_s: float


@dataclass(frozen=True, slots=True)
class NextLine:
    """Read a line of the stream opened by Listen; the outcome is text, None at its end, or a Lost after a timeout."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """Response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Missing or incomplete response; `sent`: the server may have received the request, `late`: it timed out."""

    reason: str
    sent: bool
    late: bool = False


Step = Send | Listen | NextLine | Pause
Outcome = Reply | Lost | str | None
Flow = Generator[Step, Outcome, T]
"""Generator that yields steps, receives their outcomes and returns the result; both clients can run it."""
