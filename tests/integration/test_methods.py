"""Methods: HEAD wherever GET is taken, OPTIONS, and what a refusal says is allowed, through a real server."""

from collections.abc import Callable
from typing import Any

import pytest
from problems import assert_problem

Image = Callable[..., bytes]
LOOK = "GET, HEAD, OPTIONS"
PATHS = {
    "/": LOOK,
    "/healthz": LOOK,
    "/readyz": LOOK,
    "/metrics": LOOK,
    "/docs": LOOK,
    "/openapi.json": LOOK,
    "/v1/limits": LOOK,
    "/v1/scheduler": LOOK,
    "/v1/version": LOOK,
    "/v1/health/ready": LOOK,
    "/v2": LOOK,
    "/v2/health/ready": LOOK,
    "/v2/models/promptir": LOOK,
    "/v2/models/stats": LOOK,
    "/restore": "OPTIONS, POST",
    "/v1/jobs": "OPTIONS, POST",
    "/v1/jobs/x": "DELETE, GET, HEAD, OPTIONS",
    "/v1/jobs/x/result": LOOK,
    "/v2/models/promptir/infer": "OPTIONS, POST",
    "/v2/repository/index": "OPTIONS, POST",
}


@pytest.mark.parametrize(("path", "allowed"), PATHS.items())
def test_each_path_says_which_methods_it_takes(server: Any, path: str, allowed: str) -> None:
    options = server.client.options(path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", allowed)
    methods = [method for method in allowed.split(", ") if method != "OPTIONS"]
    for method in ("PUT", "PATCH", "TRACE") if "GET" in methods else ("PUT", "GET", "HEAD"):
        refused = server.client.request(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == ", ".join(methods)
    words = server.client.put(path)
    assert f"it takes {', '.join(methods)}." in words.text
    if not path.startswith("/v2"):
        assert assert_problem(words, 405, "method-not-allowed")["allowed_methods"] == methods


@pytest.mark.parametrize("path", [path for path, allowed in PATHS.items() if allowed == LOOK and "/x" not in path])
def test_head_is_get_without_its_body(server: Any, path: str) -> None:
    head, got = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path not in ("/metrics", "/v1/scheduler", "/v2/models/stats"):  # which change from one to the next
        assert head.headers["content-length"] == got.headers["content-length"]


def test_the_head_of_a_result_and_of_events_comes_without_reading_them(start: Any, png: Image, tmp_path: Any) -> None:
    server = start(gate=tmp_path / "gate", jobs_folder=tmp_path / "jobs").until_ready()
    with server.holding():
        path = server.client.post("/v1/jobs", content=png(64, 64)).headers["location"]
        events = server.client.head(f"{path}/events")  # though the job still runs
    assert (events.status_code, events.content) == (200, b"")
    assert events.headers["content-type"].startswith("text/event-stream")
    server.until(lambda: server.client.get(path).json()["state"] == "done")
    head, got = server.client.head(f"{path}/result"), server.client.get(f"{path}/result")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(got.content)
    assert head.headers["etag"] == got.headers["etag"]
    assert not [line for line in server.lines if line["level"] == "ERROR"]


def test_what_is_not_there_takes_no_method(server: Any) -> None:
    assert server.client.head("/nothing").status_code == 404
    assert server.client.options("/nothing").status_code == 404
