"""Refusals at the head of a request, while what was admitted fills the backlog."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from raw_http import connect, read_answer, received, upload_head

Image = Callable[..., bytes]
TYPE = "Content-Type: image/png"
ANSWERED = 'promptir_requests_total{outcome="queue-full",status="429"}'
REFUSED = 'promptir_refusals_total{reason="queue-full"}'
SIDE = 16
# While one runs and one waits there is no room for a third.
FULL = {"max_batch": 1, "max_queued_pixels": SIDE * SIDE}


def waiting(server: Any) -> int:
    return sum(bucket["tiles"] for bucket in server.client.get("/v1/scheduler").json()["buckets"])


@pytest.fixture
def full(start: Any, png: Image, tmp_path: Path) -> Iterator[Any]:
    """A server whose queue is full; the images that fill it come back at the end."""
    server = start(gate=tmp_path / "gate", **FULL).until_ready()
    with ThreadPoolExecutor(2) as senders:
        with server.holding():
            sent = [senders.submit(server.client.post, "/restore", content=png(SIDE, SIDE, seed=1))]
            server.until(server.running)
            sent.append(senders.submit(server.client.post, "/restore", content=png(SIDE, SIDE, seed=2)))
            server.until(lambda: waiting(server) == 1)
            yield server
        assert [answer.result().status_code for answer in sent] == [200, 200]


def test_the_refusal_is_the_problem_that_the_route_would_answer_with(full: Any, png: Image) -> None:
    data, answered, refused = png(SIDE, SIDE, seed=3), full.metric(ANSWERED), full.metric(REFUSED)
    with closing(connect(full.url)) as connection:
        connection.sendall(upload_head(len(data), TYPE, "X-Request-ID: my-own") + data)
        status, headers, problem = read_answer(connection)
    assert (status, headers["content-type"]) == (429, "application/problem+json")
    assert headers["x-request-id"] == "my-own"
    assert headers["server-timing"].startswith("total;dur=")
    assert 1 <= int(headers["retry-after"]) == problem.pop("retry_after_s")
    assert problem.pop("detail").startswith("The images in progress have 256 pixels")
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
    data = png(SIDE, SIDE, seed=3)
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
    data = png(SIDE, SIDE, seed=3)
    with closing(connect(full.url)) as connection:
        connection.sendall(upload_head(len(data), TYPE) + data)
        assert read_answer(connection)[0] == 429
        full.end_one()
        full.until(lambda: not waiting(full))
        connection.sendall(upload_head(len(data), TYPE) + data)
        full.until(lambda: waiting(full) == 1)
        full.end_one()
        full.end_one()
        assert received(connection).startswith(b"HTTP/1.1 200 ")
