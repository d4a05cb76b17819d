"""Tests of what every answer carries."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.responses import Response

from server.http.middleware.request_context import RequestContext
from server.http.scope import note_outcome
from server.metrics import Metrics


def scope(method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": headers or [], "query_string": b""}


def ask(request: dict[str, Any]) -> tuple[dict[str, list[str]], Metrics]:
    """The headers of the answer, and the metrics."""
    metrics = Metrics(CollectorRegistry())

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/broken":
            raise ZeroDivisionError
        if scope["path"] == "/restore":
            note_outcome(scope, "restored")
            await Response("restored", headers={"Server-Timing": "decode;dur=1.00"})(scope, receive, send)
            return
        await Response("other")(scope, receive, send)

    context = RequestContext(
        inside, metrics, on_crash=lambda request, error: Response(status_code=500, headers={"X-By": "crash"})
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(context(request, receive, send))
    headers: dict[str, list[str]] = {}
    for name, value in sent[0]["headers"]:
        headers.setdefault(name.decode(), []).append(value.decode())
    return headers, metrics


def test_the_total_joins_the_stages_in_one_header() -> None:
    headers, _ = ask(scope("POST", "/restore"))
    (timing,) = headers["server-timing"]
    assert timing.startswith("decode;dur=1.00, total;dur=")
    (alone,) = ask(scope("GET", "/"))[0]["server-timing"]
    assert alone.startswith("total;dur=")


def test_a_crash_is_answered_and_has_its_id() -> None:
    headers, _ = ask(scope("POST", "/broken", [(b"x-request-id", b"find-me")]))
    assert headers["x-by"] == ["crash"]
    assert headers["x-request-id"] == ["find-me"]


def test_ids_that_the_server_gives_are_not_given_twice() -> None:
    ids = {ask(scope("GET", "/"))[0]["x-request-id"][0] for _ in range(20)}
    assert len(ids) == 20


def test_an_outcome_is_counted_once() -> None:
    _, metrics = ask(scope("POST", "/restore"))
    labels = {"status": "200", "outcome": "restored"}
    assert metrics.registry.get_sample_value("promptir_requests_total", labels) == 1


def test_every_answer_is_for_one_reader_and_of_the_type_that_it_says() -> None:
    for path in ("/restore", "/broken", "/"):
        headers, _ = ask(scope("POST", path))
        assert headers["x-content-type-options"] == ["nosniff"]
        assert headers["cache-control"] == ["private"]
