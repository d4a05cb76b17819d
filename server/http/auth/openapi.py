"""Access document: what OpenAPI says of keys, where a server asks for them."""

from typing import Any

from server import errors
from server.http.auth.guard import is_open
from server.http.error_responses import openapi_responses

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def document_keys(schema: dict[str, Any]) -> None:
    """Add to a finished OpenAPI document: either header lets in, and what it is refused with."""
    schema["components"]["securitySchemes"] = _SCHEMES
    schema["security"] = [{name: []} for name in _SCHEMES]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if is_open(method.upper(), path):
                operation["security"] = []
                continue
            kinds: list[type[errors.PromptIRServeError]] = [errors.Unauthorized, errors.Forbidden]
            if method == "post":
                kinds.append(errors.QuotaExceeded)
            for status, response in openapi_responses(*kinds).items():
                there = operation["responses"].setdefault(str(status), response)
                if there is not response:  # a full queue has the same status as a quota
                    there["description"] += f"\n\n{response['description']}"
