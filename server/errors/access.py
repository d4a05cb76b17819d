"""Errors of who asks."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from server.errors.root import PromptIRServeError


class AccessError(PromptIRServeError):
    """The server asks for API keys, and this is about them."""

    slug = "access-error"
    title = "Access error"


class Unauthorized(AccessError):
    """The request has no API key, or one that the server does not know."""

    slug = "unauthorized"
    title = "Unauthorized"


class Forbidden(AccessError):
    """The API key is known, and suspended."""

    slug = "forbidden"
    title = "Forbidden"


class KeysUnavailable(AccessError):
    """The keys file cannot be used; the detail says why."""

    slug = "keys-unavailable"
    title = "Keys unavailable"
