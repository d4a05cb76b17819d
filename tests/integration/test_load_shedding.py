"""Refusals at the head of a request, while what was admitted fills the backlog."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from raw_http import connect, read_answer, received, upload_head

Image = Callable[..., bytes]
TYPE = "Content-Type: image/png"
ANSWERED = 'promptir_requests_total{outcome="queue-full",status="429"}'
REFUSED = 'promptir_refusals_total{reason="queue-full"}'
# A run takes two seconds: one that runs and one that waits leave no room for a third. The rest is for slow machines.
FULL = {"simulated_base_ms": 2000, "simulated_ms_per_megapixel": 0, "max_batch": 1, "max_backlog_ms": 4400}


def waiting(server: Any) -> int:
    return sum(bucket["tiles"] for bucket in server.client.get("/v1/scheduler").json()["buckets"])


@pytest.fixture(scope="module")
def slow(session_start: Any) -> Any:
    """One server for all tests here: its start takes some runs."""
    return session_start(**FULL).until_ready()


@pytest.fixture
def full(slow: Any, png: Image) -> Iterator[Any]:
    """A server whose backlog is full for about a second; the images that fill it come back at the end."""
    server = slow
    assert server.client.post("/restore", content=png(16, 16)).status_code == 200
    statuses: list[int] = []

    def send(seed: int) -> None:
        statuses.append(server.client.post("/restore", content=png(16, 16, seed=seed)).status_code)

    senders = [threading.Thread(target=send, args=(seed,)) for seed in (1, 2)]
    for sender in senders:
        sender.start()
    server.until(lambda: waiting(server) == 1)
    yield server
    for sender in senders:
        sender.join()
    assert statuses == [200, 200]


def test_the_refusal_is_the_problem_that_the_route_would_answer_with(full: Any, png: Image) -> None:
    data, answered, refused = png(16, 16, seed=3), full.metric(ANSWERED), full.metric(REFUSED)
    with closing(connect(full.url)) as connection:
        connection.sendall(upload_head(len(data), TYPE, "X-Request-ID: my-own") + data)
        status, headers, problem = read_answer(connection)
    assert (status, headers["content-type"]) == (429, "application/problem+json")
    assert headers["x-request-id"] == "my-own"
    assert headers["server-timing"].startswith("total;dur=")
    assert 1 <= int(headers["retry-after"]) == problem.pop("retry_after_s")
    assert problem.pop("detail").startswith("what was admitted before takes ")
    assert problem == {
        "type": "urn:promptir:problem:queue-full",
        "title": "Queue full",
        "status": 429,
        "instance": "urn:promptir:request:my-own",
    }
    assert (full.metric(ANSWERED), full.metric(REFUSED)) == (answered + 1, refused + 1)
    full.until(lambda: any(line.get("refused") == 1 for line in full.lines))
    assert not any(line.get("request_id") == "my-own" for line in full.lines)  # no line of its own


def test_the_connection_of_a_refused_request_serves_on_whenever_its_body_comes(full: Any, png: Image) -> None:
    data = png(16, 16, seed=3)
    asking = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with closing(connect(full.url)) as connection:
        connection.sendall(upload_head(len(data), TYPE))
        assert read_answer(connection)[0] == 429
        connection.sendall(data[:100])
        connection.sendall(data[100:] + asking)
        assert received(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(upload_head(len(data), TYPE) + data)
        assert read_answer(connection)[0] == 429


def test_once_there_is_room_the_same_connection_is_served(full: Any, png: Image) -> None:
    data = png(16, 16, seed=3)
    with closing(connect(full.url)) as connection:
        connection.sendall(upload_head(len(data), TYPE) + data)
        assert read_answer(connection)[0] == 429
        full.until(lambda: not waiting(full))
        connection.sendall(upload_head(len(data), TYPE) + data)
        assert received(connection).startswith(b"HTTP/1.1 200 ")
