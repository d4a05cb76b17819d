"""Callers: who sent a request, for the routes that work for it."""

from starlette.types import Scope

from server.access.caller import Caller

_CALLER = "promptir_caller"


def note_caller(scope: Scope, caller: Caller) -> None:
    """Say whose request this is."""
    scope[_CALLER] = caller


def caller_of(scope: Scope) -> Caller | None:
    """Whose request it is; None where nobody is asked for a key."""
    caller: Caller | None = scope.get(_CALLER)
    return caller


def charge(scope: Scope, pixels: int) -> None:
    """Charge the image of a request to whoever sent it; raises QuotaExceeded."""
    if (caller := caller_of(scope)) is not None:
        caller.charge_pixels(pixels)
