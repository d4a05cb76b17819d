"""What a client may ask of a restoration, through a real server."""

import base64
import email.parser
import email.policy
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
RESTORED = 'promptir_requests_total{outcome="restored",status="200"}'


def runs(log: Any) -> int:
    """Runs of the simulated device that have ended."""
    return len(log.read_text().splitlines()) - 1


def test_accept_chooses_the_format_and_the_answer_says_that_it_varies(server: Any, png: Image) -> None:
    response = server.client.post("/restore", content=png(8, 8), headers={"Accept": "image/webp, image/*;q=0.5"})
    assert (response.headers["content-type"], response.headers["vary"]) == ("image/webp", "Accept")
    response = server.client.post("/restore", content=png(8, 8), headers={"Accept": "text/html"})
    assert (response.status_code, response.json()["type"]) == (406, "urn:promptir:problem:not-acceptable")
    assert "image/png" in response.json()["acceptable_media_types"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tile": 65}, "multiple of 32 from 64"), ({"tile": 1 << 20}, "multiple of 32"), ({"overlap": 400}, "a quarter")],
)
def test_tiles_that_cannot_be_had_are_a_400_that_says_what_can(
    options: dict[str, int], words: str, server: Any, png: Image
) -> None:
    response = server.client.post("/restore", params=options, content=png(300, 300))
    assert response.status_code == 400
    assert words in response.json()["detail"]


def test_an_answer_at_hand_is_not_sent_again(server: Any, png: Image) -> None:
    data = png(40, 40, seed=77)
    tag = server.client.post("/restore", content=data).headers["etag"]
    before = server.metric('promptir_batch_size_count{model="identity"}')
    again = server.client.post("/restore", content=data, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert server.metric('promptir_batch_size_count{model="identity"}') == before
    for changed in ({"params": {"quality": 80}}, {"params": {"strength": 0.5}}, {"content": png(40, 40, seed=78)}):
        other = server.client.post("/restore", **({"content": data} | changed), headers={"If-None-Match": tag})
        assert (other.status_code, other.headers["etag"] != tag) == (200, True)


def test_equal_requests_in_flight_run_once(start: Any, png: Image, tmp_path: Any) -> None:
    log = tmp_path / "runs.csv"
    server = start(simulated_base_ms=1500, simulated_run_log=log, max_batch=1).until_ready()
    before = runs(log)
    data = png(32, 32)
    with ThreadPoolExecutor(6) as senders:
        send = lambda seed: server.client.post("/restore", content=data if seed == 0 else png(32, 32, seed=seed))  # noqa: E731
        answers = list(senders.map(send, [0, 0, 0, 0, 0, 5]))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers[:5]}) == 1
    assert runs(log) - before == 2


def test_a_report_comes_with_the_image_in_two_parts(server: Any, png: Image, samples: Samples) -> None:
    data = png(200, 300)
    response = server.client.post("/restore", params={"report": "true", "tile": 64}, files={"file": ("a.png", data)})
    header = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(header + response.content)
    report, image = message.iter_parts()
    document = json.loads(report.get_content())
    assert (document["width"], document["height"], document["mode"]) == (300, 200, "tiled")
    assert document["tiles"] > 10
    assert document["change"] == {"mean_abs": 0.0, "max_abs": 0.0, "psnr_db": None}
    assert np.shape(document["prompt_weights"]) == (3, 5)
    np.testing.assert_allclose(np.sum(document["prompt_weights"], axis=1), 1, atol=1e-6)
    assert document["timings"]["inference_ms"] > 0
    assert (image.get_content_type(), image.get_filename()) == ("image/png", "a-restored.png")
    np.testing.assert_array_equal(samples(image.get_content()), samples(data))


def test_what_is_dropped_beside_the_picture_is_said(server: Any, jpeg_with_claims: bytes) -> None:
    plain = server.client.post("/restore", params={"format": "same"}, content=jpeg_with_claims)
    assert plain.headers["x-restore-dropped"] == "gain-map, motion-video"
    assert b"MotionPhoto" not in plain.content
    reported = server.client.post(
        "/restore", params={"report": "true"}, content=jpeg_with_claims, headers={"Accept": "application/json"}
    )
    assert reported.json()["dropped"] == ["gain-map", "motion-video"]
    again = server.client.post("/restore", content=plain.content)
    assert "x-restore-dropped" not in again.headers


@pytest.fixture
def jpeg_with_claims() -> bytes:
    packet = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a xmlns:h='http://ns.adobe.com/hdr-gain-map/1.0/' h:Version='1.0' "
        b"xmlns:c='http://ns.google.com/photos/1.0/camera/' c:MotionPhoto='1'/></x:xmpmeta>"
    )
    file = io.BytesIO()
    PIL.Image.new("RGB", (16, 16), "teal").save(file, "JPEG", xmp=packet)
    return file.getvalue() + b"a video"


def test_a_report_is_json_with_the_image_inside_for_who_names_json(server: Any, png: Image, samples: Samples) -> None:
    data = png(20, 30)
    response = server.client.post(
        "/restore", params={"report": "true"}, content=data, headers={"Accept": "application/json"}
    )
    document = response.json()
    assert (document["mode"], document["media_type"]) == ("whole", "image/png")
    red = samples(data)[0, 0, 2] / 255  # the simulated device weighs an image by its first pixel
    np.testing.assert_allclose(document["prompt_weights"], [[red, *[(1 - red) / 4] * 4]] * 3, atol=1e-6)
    np.testing.assert_array_equal(samples(base64.b64decode(document["image"])), samples(data))


def test_every_limit_is_told(server: Any) -> None:
    from server.settings import LimitSettings, Settings

    limits = server.client.get("/v1/limits").json()
    assert set(LimitSettings.model_fields) <= set(limits)
    settings = Settings()
    for name, value in settings.limits.model_dump().items():
        assert limits[name] == value or value is None, name
    assert limits["max_whole_pixels"] > 0
    assert set(limits["output_formats"]) == {"png", "jpeg", "webp", "avif", "tiff", "same"}
    assert limits["tile"]["smallest"] % limits["tile"]["step"] == 0
    for tile in (limits["tile"]["smallest"], limits["tile"]["largest"], limits["tile"]["default"]):
        file = io.BytesIO()
        PIL.Image.new("RGB", (8, 8)).save(file, "PNG")
        assert server.client.post("/restore", params={"tile": tile}, content=file.getvalue()).status_code == 200
    schema = server.client.get("/openapi.json").json()["components"]["schemas"]["ServiceLimits"]
    assert set(limits) <= set(schema["properties"])
    assert server.client.get("/").json()["links"]["limits"] == "/v1/limits"


def test_a_large_photo_is_taken_by_an_idle_server_and_small_images_pass_it(start: Any, png: Image) -> None:
    # 1000 x 1500 in 24 tiles of 0.1 s; the backlog bound of 0.5 s is below what the photo takes.
    server = start(
        simulated_base_ms=100, simulated_ms_per_megapixel=0, max_whole_pixels=65_536, max_backlog_ms=500, max_batch=1
    ).until_ready()
    photo, answers = png(1000, 1500), []
    sender = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{server.url}/restore", content=photo, timeout=60))
    )
    sender.start()
    server.until(lambda: server.metric("promptir_backlog_seconds") > 1)
    refused = server.client.post("/restore", content=png(1000, 1500, seed=1))
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)
    small = server.client.post("/restore", content=png(16, 16))
    assert small.status_code == 200
    timing = dict(part.strip().split(";dur=") for part in small.headers["server-timing"].split(",") if "dur" in part)
    assert float(timing["queue"]) < 250  # the run that went on, and not the two dozen behind it
    assert not answers
    sender.join()
    assert (answers[0].status_code, answers[0].headers["x-restore-mode"]) == (200, "tiled")


def test_a_client_that_leaves_takes_all_tiles_of_its_photo_along(start: Any, png: Image) -> None:
    server = start(
        simulated_base_ms=200, simulated_ms_per_megapixel=0, max_whole_pixels=65_536, max_batch=1
    ).until_ready()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/restore", content=png(1000, 1500), timeout=httpx.Timeout(5, read=1))
    server.until(lambda: server.metric("promptir_backlog_seconds") < 0.3)
    server.until(lambda: server.metric("promptir_queue_tiles") == 0)


@pytest.mark.parametrize("path", ["/restore", "/v1/jobs"])
def test_an_option_in_the_form_is_refused_and_not_dropped(path: str, start: Any, tmp_path: Any, png: Image) -> None:
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    form: dict[str, Any] = {"files": {"file": ("a.png", png(8, 8))}}
    response = server.client.post(path, **form, data={"comment": "a", "strength": "0.5"})
    assert response.status_code == 400
    assert response.json()["detail"] == (
        "The form has a field `strength`: options go into the query, as in ?strength=VALUE."
    )
    assert server.client.post(path, **form, data={"comment": "a"}).is_success


def test_headers_that_are_repeated_are_one_list(server: Any, png: Image) -> None:
    accepted = [("Accept", "image/jpeg;q=0.1"), ("Accept", "image/webp")]
    assert server.client.post("/restore", content=png(8, 8), headers=accepted).headers["content-type"] == "image/webp"
    twice = [("X-Deadline-Ms", "60000"), ("X-Deadline-Ms", "60000")]
    response = server.client.post("/restore", content=png(8, 8), headers=twice)
    assert response.status_code == 400
    assert "X-Deadline-Ms" in response.json()["detail"]
