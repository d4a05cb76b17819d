"""Assertions on problem documents, the form of all errors."""

from collections.abc import Mapping
from typing import Any

import httpx


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Assert that the response is this problem; returns its document."""
    document: dict[str, Any] = response.json()
    assert_sound(status, response.headers, document)
    assert response.status_code == status, response.text
    assert list(document)[:5] == ["type", "title", "status", "detail", "instance"]
    assert document["type"] == f"urn:promptir:problem:{slug}"
    assert document["title"]
    assert document["instance"].endswith(response.headers["x-request-id"])
    return document


def assert_sound(status: int, headers: Mapping[str, str], document: Mapping[str, Any]) -> None:
    """Assert that the response is a problem with a readable sentence and no internals."""
    assert headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert len(document["detail"].split()) > 3
    assert "\n" not in document["detail"]
    assert "Error" not in document["detail"]
