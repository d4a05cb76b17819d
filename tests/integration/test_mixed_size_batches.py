"""Several sizes in one run, over HTTP: each client gets its own image back, and is told of the padded_shape."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from server.scheduling.policy.mixed_sizes import FIRST_AFTER

Image = Callable[..., bytes]
SIZES = [(16, 24), (16, 32), (24, 32)]


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def sample(text: str, series: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{series}{{[^}}]*}} ([\d.e+]+)$", text, re.MULTILINE))


def while_a_run_goes_on(server: Any, first: bytes, images: list[bytes]) -> list[Any]:
    """The answers to images that all waited while the device ran another one."""
    with ThreadPoolExecutor(len(images) + 1) as senders:
        with server.holding():
            running = senders.submit(server.client.post, "/restore", content=first)
            server.until(server.running)
            sent = [senders.submit(server.client.post, "/restore", content=image) for image in images]
            server.until(lambda: server.metric("promptir_queue_tiles") == len(images))
        assert running.result().status_code == 200
        return [answer.result() for answer in sent]


def test_sizes_share_a_run_and_each_answer_is_the_own_image(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", simulated_base_ms=20, simulated_mixed_sizes=True).until_ready()
    images = [png(*size, seed=seed) for seed, size in enumerate(SIZES * 3)]
    answers = while_a_run_goes_on(server, png(8, 8, seed=99), images)
    for image, answer in zip(images, answers, strict=True):
        assert answer.status_code == 200
        assert np.array_equal(decoded(answer.content), decoded(image))
    masked = [answer for answer in answers if answer.headers["x-restore-padded-shape"].endswith("; mixed-size")]
    assert masked  # when each came to wait is up to the machine, but nine do not come one by one
    assert {answer.headers["x-restore-padded-shape"] for answer in masked} <= {"32x16; mixed-size", "32x24; mixed-size"}
    text = server.client.get("/metrics").text
    assert sample(text, "promptir_mixed_size_images_total") == len(masked)
    assert 1 <= sample(text, "promptir_mixed_size_batches_total") <= len(masked) / 2
    assert sample(text, "promptir_padding_pixels_total") > 0


def test_without_a_masked_model_only_equal_sizes_run_together(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate").until_ready()
    images = [png(*size, seed=seed) for seed, size in enumerate(SIZES)]
    answers = while_a_run_goes_on(server, png(8, 8, seed=9), images)
    assert [answer.headers["x-restore-padded-shape"] for answer in answers] == [f"{w}x{h}; plain" for h, w in SIZES]


def test_a_given_padded_shape_is_the_one_that_sizes_share(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(
        gate=tmp_path / "gate", simulated_base_ms=20, simulated_mixed_sizes=True, padded_shapes="40x40"
    ).until_ready()
    none_holds_another = [(16, 40), (24, 32), (32, 24)]
    images = [png(*size, seed=seed) for seed, size in enumerate(none_holds_another * 3)]
    answers = while_a_run_goes_on(server, png(8, 8, seed=99), images)
    for image, answer in zip(images, answers, strict=True):
        assert np.array_equal(decoded(answer.content), decoded(image))
    shapes = [answer.headers["x-restore-padded-shape"] for answer in answers]
    assert {shape for shape in shapes if shape.endswith("; mixed-size")} == {"40x40; mixed-size"}


def test_the_scheduler_shows_the_padded_shapes_of_a_setting_and_what_waits_for_them(
    start: Any, png: Image, tmp_path: Path
) -> None:
    server = start(
        gate=tmp_path / "gate", simulated_mixed_sizes=True, padded_shapes="40x32,64x64", max_batch=1
    ).until_ready()
    with ThreadPoolExecutor(4) as senders:
        with server.holding():
            sent = [senders.submit(server.client.post, "/restore", content=png(8, 8))]
            server.until(server.running)
            sent += [
                senders.submit(server.client.post, "/restore", content=png(*size, seed=seed))
                for seed, size in enumerate(((32, 40), (24, 40), (24, 40)))
            ]
            server.until(lambda: server.metric("promptir_queue_tiles") == 3)
            state = server.client.get("/v1/scheduler").json()
        assert [answer.result().status_code for answer in sent] == [200] * 4
    assert {padded_shape["chosen_by"] for padded_shape in state["padded_shapes"]} == {"setting"}
    found = {
        (padded_shape["height"], padded_shape["width"]): (padded_shape["tiles"], padded_shape["padding"])
        for padded_shape in state["padded_shapes"]
    }
    assert found == {(32, 40): (3, pytest.approx(1 / 6)), (40, 32): (0, 0), (64, 64): (0, 0)}


def test_the_scheduler_shows_the_padded_shapes_that_the_traffic_chose(start: Any, png: Image) -> None:
    server = start(simulated_mixed_sizes=True).until_ready()
    for seed in range(FIRST_AFTER):
        assert server.client.get("/v1/scheduler").json()["padded_shapes"] == []
        server.client.post("/restore", content=png(16, 24, seed=seed))
    shown = server.client.get("/v1/scheduler").json()["padded_shapes"]
    assert [(padded_shape["height"], padded_shape["width"], padded_shape["chosen_by"]) for padded_shape in shown] == [
        (16, 24, "traffic"),
        (24, 16, "traffic"),
    ]


def test_a_plain_model_has_no_padded_shapes(server: Any, png: Image) -> None:
    for seed in range(FIRST_AFTER):
        server.client.post("/restore", content=png(16, 24, seed=seed))
    assert server.client.get("/v1/scheduler").json()["padded_shapes"] == []
