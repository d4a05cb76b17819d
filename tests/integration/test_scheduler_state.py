"""GET /v1/scheduler and the headers that say how urgent a request is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from raw_http import connect, upload_head

Image = Callable[..., bytes]


def test_an_idle_server_has_devices_and_nothing_that_waits(server: Any, png: Image) -> None:
    server.client.post("/restore", content=png(16, 24))
    state = server.client.get("/v1/scheduler").json()
    assert state["buckets"] == []
    assert state["backlog_ms"] == 0
    assert state["max_backlog_ms"] > 0
    (device,) = state["devices"]
    assert device["running"] == []
    (model,) = device["models"]
    assert (model["name"], model["max_batch"] >= 1) == ("identity", True)
    assert any((cost["height"], cost["width"]) == (16, 24) for cost in model["costs"])


def test_what_waits_shows_by_size_and_priority(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1).until_ready()
    small, wide = png(8, 8), png(8, 24)
    with ThreadPoolExecutor(4) as senders:
        with server.holding():
            sent = [senders.submit(server.client.post, "/restore", content=small)]
            server.until(server.running)
            sent += [
                senders.submit(server.client.post, "/restore", content=data, headers={"X-Priority": priority})
                for data, priority in ((wide, "batch"), (wide, "interactive"))
            ]
            server.until(lambda: server.metric("promptir_queue_tiles") == 2)
            state = server.client.get("/v1/scheduler").json()
        (bucket,) = state["buckets"]
        assert (bucket["height"], bucket["width"], bucket["tiles"], bucket["pixels"]) == (8, 24, 2, 2 * 8 * 24)
        assert (bucket["interactive"], bucket["batch"]) == (1, 1)
        assert bucket["oldest_wait_ms"] > 0
        assert state["backlog_ms"] > 0
        assert state["devices"][0]["running"] == [{"model": "identity", "height": 8, "width": 8, "count": 1}]
        assert [answer.result().status_code for answer in sent] == [200, 200, 200]


def test_interactive_requests_overtake_batch_ones(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1).until_ready()

    def send(priority: str, seed: int, side: int) -> int:
        content, headers = png(side, side, seed=seed), {"X-Priority": priority}
        status: int = server.client.post("/restore", content=content, headers=headers).status_code
        return status

    with ThreadPoolExecutor(4) as senders:
        with server.holding():
            sent = [senders.submit(send, "batch", seed, 8) for seed in range(3)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 2)  # one runs
            sent.append(senders.submit(send, "interactive", 3, 16))
            server.until(lambda: server.metric("promptir_queue_tiles") == 3)
            server.end_one()
            server.until(lambda: server.metric("promptir_queue_tiles") == 2)
            (run,) = server.running()
            assert (run["height"], run["width"]) == (16, 16)
        assert [answer.result() for answer in sent] == [200] * 4


def test_a_client_that_leaves_during_a_run_changes_nothing_for_the_others(
    start: Any, png: Image, tmp_path: Path
) -> None:
    server = start(gate=tmp_path / "gate", max_batch=4).until_ready()
    data = png(8, 8)
    with connect(server.url) as leaving, ThreadPoolExecutor(3) as senders:
        with server.holding():
            first = senders.submit(server.client.post, "/restore", content=png(8, 8, seed=1))
            server.until(server.running)
            leaving.sendall(upload_head(len(data)) + data)
            others = [senders.submit(server.client.post, "/restore", content=png(8, 8, seed=seed)) for seed in (2, 3)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 3)
            server.end_one()
            assert first.result().status_code == 200
            server.until(lambda: server.metric("promptir_queue_tiles") == 0)  # the three of them run
            leaving.close()
            gone = 'promptir_requests_total{outcome="client-closed",status="499"}'
            server.until(lambda: server.metric(gone) == 1)
        assert [other.result().status_code for other in others] == [200, 200]
    server.until(lambda: server.metric('promptir_dropped_tiles_total{reason="abandoned"}') == 1)
    assert server.metric('promptir_dropped_tiles_total{reason="cancelled"}') == 0
