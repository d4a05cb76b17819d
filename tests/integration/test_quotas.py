"""Tests of what each key has used, with a real server: quotas, and names in log and metrics."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from client_keys import ADA, BOB, SPARE

from promptir_client import Client, Retries, TooManyRequests

Image = Callable[..., bytes]
ONCE = Retries(attempts=1)


def test_either_header_lets_in_and_the_log_has_the_name_alone(
    guarded: Any, png: Image, count_of: Callable[..., float]
) -> None:
    for headers in ({"Authorization": f"Bearer {ADA}"}, {"X-API-Key": ADA}):
        response = guarded.client.post("/restore", content=png(8, 8, seed=1), headers=headers)
        assert response.status_code == 200
    mine = response.headers["x-request-id"]
    guarded.until(lambda: any(line.get("request_id") == mine for line in guarded.lines))
    (line,) = [line for line in guarded.lines if line.get("request_id") == mine and line["message"] == "request"]
    assert line["key"] == "ada"
    written = json.dumps(guarded.lines)
    assert ADA not in written
    assert SPARE not in written
    assert count_of("requests", "ada") >= 2
    assert count_of("pixels", "ada") >= 128


def test_no_name_of_a_client_is_in_the_open_metrics(guarded: Any) -> None:
    """Neither in the text format nor in OpenMetrics, with or without a key."""
    for headers in ({}, {"X-API-Key": ADA}, {"Accept": "application/openmetrics-text"}):
        page = guarded.client.get("/metrics", headers=headers).text
        assert "promptir_key_requests_total{" in page
        assert not [name for name in ("ada", "bob", "eve", "sparing") if f'"{name}"' in page]


def test_pixels_are_charged_from_the_header_and_the_wait_is_told(
    guarded: Any, png: Image, count_of: Callable[..., float]
) -> None:
    """0.06 megapixels per minute are 1000 pixels per second."""
    with Client(guarded.url, SPARE, retries=ONCE) as client:
        assert client.restore(png(200, 200, seed=3)).data
        with pytest.raises(TooManyRequests) as refused:
            client.restore(png(200, 200, seed=4))
        assert refused.value.slug == "quota-exceeded"
        assert refused.value.members["megapixels_per_minute"] == 0.06
        assert 10 <= (refused.value.retry_after_s or 0) <= 20
        with pytest.raises(TooManyRequests):
            client.submit(png(200, 200, seed=4))
        cut = png(200, 200, seed=5)[:3000]  # it could not even be decoded
        with pytest.raises(TooManyRequests):
            client.restore(cut)
    assert count_of("refusals", "sparing", ',reason="megapixels"') == 3
    assert count_of("pixels", "sparing") == 40_000


def test_a_size_behind_a_long_profile_is_charged_as_well(
    guarded: Any, png: Image, count_of: Callable[..., float]
) -> None:
    data = png(300, 300, seed=6)
    profile = b"\xff\xe2" + (65_533).to_bytes(2, "big") + b"x" * 65_531
    import cv2
    import numpy as np

    jpeg = cv2.imencode(".jpg", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()
    before = count_of("pixels", "bob")
    headers = {"X-API-Key": BOB}
    response = guarded.client.post("/restore", content=jpeg[:2] + profile * 10 + jpeg[2:], headers=headers)
    assert response.status_code == 200, response.text
    assert count_of("pixels", "bob") == before + 90_000


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_a_damaged_photo_is_charged_however_it_comes(
    form: bool, guarded: Any, png: Image, count_of: Callable[..., float]
) -> None:
    cut = png(120, 150, seed=7 + form)[:-8]
    before = count_of("pixels", "bob")
    sent: dict[str, Any] = {"files": {"file": cut}} if form else {"content": cut}
    response = guarded.client.post("/restore", headers={"X-API-Key": BOB}, **sent)
    assert response.status_code == 422, response.text
    assert count_of("pixels", "bob") == before + 18_000
