"""Tests of the application in front of the framework."""

import asyncio
from typing import Any

from starlette.responses import Response

from server.http.service import Service


def asked(method: str, path: str) -> bytes:
    service = Service()

    @service.api_route("/restore", methods=["GET", "POST"])
    @service.api_route("/restore/", methods=["POST"])
    async def framework() -> Response:
        return Response("framework")

    service.direct = {("POST", "/restore"): Response("direct")}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(service(scope, receive, send))
    body: bytes = sent[1]["body"]
    return body


def test_a_direct_route_is_called_for_its_method_and_path_only() -> None:
    assert asked("POST", "/restore") == b"direct"
    assert asked("GET", "/restore") == b"framework"
    assert asked("POST", "/restore/") == b"direct"
    assert asked("POST", "/restored") != b"direct"
