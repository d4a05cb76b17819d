"""Many clients at once, and clients that leave."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from raw_http import connect, upload_head

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
SHAPES = [(1, 1, 3), (7, 5, 3), (13, 250, 1), (64, 64, 4), (64, 64, 3), (65, 64, 3), (16, 8, 3)]
REQUESTS = 140
CLIENTS = 16


def test_everyone_gets_their_own_image_back(start: Any, png: Image, samples: Samples) -> None:
    server = start().until_ready()

    def send(number: int) -> tuple[bytes, bytes]:
        data = png(*SHAPES[number % len(SHAPES)], seed=number)
        response = server.client.post("/restore", content=data, headers={"Content-Type": "image/png"})
        assert response.status_code == 200, response.text
        return data, response.content

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(send, range(REQUESTS)))
    for sent, received in answers:
        np.testing.assert_array_equal(samples(received), samples(sent))
    # Equal shapes that waited together ran together.
    assert server.metric('promptir_batch_size_count{model="identity"}') < REQUESTS


def test_a_client_that_leaves_while_queued_takes_its_job_along(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1).until_ready()
    with ThreadPoolExecutor(1) as sender:
        with server.holding():
            first = sender.submit(server.client.post, "/restore", content=png(8, 8))
            server.until(server.running)
            leaving = [_send(server.url, png(8, 8, seed=seed)) for seed in (1, 2, 3)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 3)
            for connection in leaving:
                connection.close()
            server.until(lambda: server.metric("promptir_queue_tiles") == 0)
        assert first.result().status_code == 200
    assert server.metric('promptir_dropped_tiles_total{reason="cancelled"}') == 3
    assert server.metric('promptir_dropped_tiles_total{reason="abandoned"}') == 0
    server.until(lambda: server.metric('promptir_requests_total{outcome="client-closed",status="499"}') == 3)


def _send(url: str, data: bytes) -> socket.socket:
    """Send a whole request and leave the answer unread."""
    connection = connect(url)
    connection.sendall(upload_head(len(data)) + data)
    return connection
