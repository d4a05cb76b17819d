"""Errors of the protocol: `{"error": "..."}` instead of a problem document."""

from starlette.types import Scope

ROOT = "/v2"


def is_open_inference(scope: Scope) -> bool:
    """Whether a request speaks the protocol, so that its errors do."""
    path: str = scope["path"]
    return path == ROOT or path.startswith(f"{ROOT}/")
