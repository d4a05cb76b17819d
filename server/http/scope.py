"""What the scope of a request holds: its headers, and notes on who sent it and how it ended."""

from collections import defaultdict
from collections.abc import Callable

from starlette.types import Scope

from server.access.caller import Caller

_CALLER, _OUTCOME, _HAS_ARRIVED = "promptir_caller", "promptir_outcome", "promptir_has_arrived"


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by lower-case name; a repeated one has its values joined by commas (RFC 9110, section 5.2)."""
    pairs = scope["headers"]
    headers: dict[bytes, bytes] = dict(pairs)
    if len(headers) == len(pairs):  # nearly always
        return headers
    values: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def note_arrival(scope: Scope, has_arrived: Callable[[], bool]) -> None:
    """Note who tells whether more of the body, or its end, has arrived, so that nobody waits for it."""
    scope[_HAS_ARRIVED] = has_arrived


def has_arrived_of(scope: Scope) -> Callable[[], bool]:
    """Return who tells whether more of the body has arrived; it may say no where that is unknown."""
    has_arrived: Callable[[], bool] = scope.get(_HAS_ARRIVED, _unknown)
    return has_arrived


def _unknown() -> bool:
    return False


def note_caller(scope: Scope, caller: Caller) -> None:
    """Note whose request this is."""
    scope[_CALLER] = caller


def caller_of(scope: Scope) -> Caller | None:
    """Return whose request this is; None if the server asks for no keys."""
    caller: Caller | None = scope.get(_CALLER)
    return caller


def note_outcome(scope: Scope, outcome: str) -> None:
    """Note how the request ended (`restored`, a problem's slug, `client-closed`) for its log line and the metrics."""
    scope[_OUTCOME] = outcome


def outcome_of(scope: Scope) -> str | None:
    """Return how the request ended; None for one that is not counted, such as a probe."""
    outcome: str | None = scope.get(_OUTCOME)
    return outcome
