"""POST /restore through a real server with the simulated backend, which is an identity."""

import gzip
import io
import re
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
PNG = {"Content-Type": "image/png"}
# What curl, forms and other programs say of bytes that they do not look at.
CALLED = ["image/png", "image/x-whatever", "application/octet-stream", "binary/octet-stream", "text/plain", "*/*"]
CALLED += ["application/x-www-form-urlencoded", "application/json", "multipart/mixed; boundary=x", "\xff/;", "image"]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (13, 250), (64, 64)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_of_any_size_and_kind_comes_back_as_it_was(
    size: tuple[int, int], channels: int, dtype: type, server: Any, png: Image, samples: Samples
) -> None:
    data = png(*size, channels, dtype=dtype)
    response = server.client.post("/restore", content=data, headers=PNG)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    restored = samples(response.content)
    assert restored.dtype == dtype
    np.testing.assert_array_equal(restored, samples(data))


@pytest.mark.parametrize("content_type", [*CALLED, None])
def test_a_raw_body_is_known_by_its_bytes(content_type: str | None, server: Any, png: Image) -> None:
    headers = [(b"Content-Type", content_type.encode("latin-1"))] if content_type else []
    response = server.client.post("/restore", content=png(8, 8), headers=headers)
    assert response.status_code == 200
    assert response.headers["content-disposition"] == 'inline; filename="restored.png"'


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_the_image_that_it_was(
    encoding: str, pack: Any, server: Any, png: Image, samples: Samples
) -> None:
    data = png(300, 500)
    form = httpx.Request("POST", server.url, files={"file": ("a.png", data)})
    for content, content_type in ((data, "image/png"), (form.read(), form.headers["content-type"])):
        headers = {"Content-Encoding": encoding, "Content-Type": content_type}
        response = server.client.post("/restore", content=pack(content), headers=headers)
        assert response.status_code == 200, response.text
        np.testing.assert_array_equal(samples(response.content), samples(data))
    assert server.metric("promptir_upload_bytes") == 0


def test_a_form_may_have_other_fields_beside_the_file(server: Any, png: Image, samples: Samples) -> None:
    data = png(300, 500)
    response = server.client.post("/restore", files={"file": ("été.jpg", data)}, data={"comment": "please"})
    assert response.status_code == 200
    np.testing.assert_array_equal(samples(response.content), samples(data))
    assert "filename*=UTF-8''%C3%A9t%C3%A9-restored.png" in response.headers["content-disposition"]


def test_a_form_of_several_megabytes_is_taken(start: Any, png: Image, samples: Samples) -> None:
    server = start().until_ready()
    data = png(1200, 1200)
    assert len(data) > 4_000_000
    response = server.client.post("/restore", files={"file": ("large.png", data)})
    np.testing.assert_array_equal(samples(response.content), samples(data))


def test_orientation_is_applied(server: Any, samples: Samples) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 24), "red").save(file, "JPEG", exif=exif)
    response = server.client.post("/restore", content=file.getvalue(), headers={"Content-Type": "image/jpeg"})
    assert samples(response.content).shape == (40, 24, 3)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_format_of_the_answer_is_chosen(name: str, kind: str, server: Any, png: Image) -> None:
    response = server.client.post("/restore", params={"format": name}, content=png(20, 30), headers=PNG)
    assert response.headers["content-type"] == f"image/{name}"
    image = PIL.Image.open(io.BytesIO(response.content))
    assert (image.format, image.size) == (kind, (30, 20))


def test_quality_is_heeded(server: Any, png: Image) -> None:
    sizes = [
        len(server.client.post("/restore", params={"format": "jpeg", "quality": quality}, content=png(64, 64)).content)
        for quality in (5, 95)
    ]
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tiff", ".bmp"])
def test_every_input_format_is_read(suffix: str, server: Any, samples: Samples) -> None:
    data = cv2.imencode(suffix, np.full((9, 11, 3), 120, np.uint8))[1].tobytes()
    response = server.client.post("/restore", content=data, headers={"Content-Type": "image/*"})
    np.testing.assert_allclose(samples(response.content).astype(int), 120, atol=2)


def test_every_response_says_how_long_each_stage_took(server: Any, png: Image) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers=PNG)
    durations = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
    assert list(durations) == ["decode", "queue", "inference", "encode", "total"]
    milliseconds = {stage: float(duration) for stage, duration in durations.items()}
    assert milliseconds["inference"] >= 1  # what the simulated backend is set to
    assert milliseconds["total"] >= sum(milliseconds.values()) - milliseconds["total"] - 0.1  # rounding
    assert "total;dur=" in server.client.get("/healthz").headers["server-timing"]


def test_an_answer_names_the_degradations_found_and_the_metrics_count_them(
    start: Callable[..., Any], samples: Samples
) -> None:
    server = start().until_ready()  # the simulated device takes red for noise, and its absence for haze
    for red in (255, 255, 0):
        picture = cv2.imencode(".png", np.full((8, 8, 3), (0, 0, red), np.uint8))[1].tobytes()
        response = server.client.post("/restore", content=picture, headers=PNG, params={"report": "true"})
        expected = "noise=1.000, haze=0.000" if red else "haze=1.000, noise=0.000"
        assert response.headers["x-degradations"] == expected
    report = server.client.post(
        "/restore", content=picture, headers=PNG | {"Accept": "application/json"}, params={"report": "true"}
    ).json()
    assert report["degradations"] == {"noise": 0.0, "haze": 1.0}
    assert server.metric('promptir_degradations_total{degradation="noise"}') == 2
    assert server.metric('promptir_degradations_total{degradation="haze"}') == 2


def test_a_sane_request_id_is_kept_and_logged(server: Any, png: Image) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers=PNG | {"X-Request-ID": "trace-42.a_B"})
    assert response.headers["x-request-id"] == "trace-42.a_B"
    server.until(lambda: any(line.get("request_id") == "trace-42.a_B" for line in server.lines))
    line = next(line for line in server.lines if line.get("request_id") == "trace-42.a_B")
    assert (line["path"], line["status"], line["outcome"]) == ("/restore", 200, "restored")


@pytest.mark.parametrize("given", ["", "has space", "<script>", "x" * 200, "é"])
def test_a_strange_request_id_is_replaced(given: str, server: Any) -> None:
    response = server.client.get("/healthz", headers={"X-Request-ID": given.encode()})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_restoration_shows_in_the_metrics(start: Any, png: Image) -> None:
    server = start().until_ready()
    server.client.post("/restore", content=png(8, 8), headers=PNG)
    server.client.post("/restore", content=b"text", headers=PNG)
    assert server.metric('promptir_requests_total{outcome="restored",status="200"}') == 1
    assert server.metric('promptir_requests_total{outcome="unsupported-image",status="415"}') == 1
    assert server.metric('promptir_stage_duration_seconds_count{model="identity",stage="total"}') == 1


def test_the_root_says_what_the_service_is(server: Any) -> None:
    description = server.client.get("/").json()
    assert description["name"] == "PromptIR Serve"
    assert description["status"] == "ready"
    assert description["model"]["backend"] == "simulated"
    for link in description["links"].values():
        assert server.client.get(link).status_code in (200, 405)  # 405: POST only
