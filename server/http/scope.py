"""Notes in the scope of a request: who sent it, and how it ended."""

from starlette.types import Scope

from server.access.caller import Caller

_CALLER, _OUTCOME = "promptir_caller", "promptir_outcome"


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
