"""Tests of access control with a real server: keys, quotas, ownership of jobs, origins, metrics port."""

import json
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_keys import ADA, BOB, EVE, ORIGIN
from problems import assert_problem

from promptir_client import Client, Forbidden, NotFound, Unauthorized

Image = Callable[..., bytes]
Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/restore"),
        ("POST", "/v1/jobs"),
        ("GET", f"/v1/jobs/{'0' * 32}"),
        ("GET", f"/v1/jobs/{'0' * 32}/events"),
        ("DELETE", f"/v1/jobs/{'0' * 32}"),
        ("GET", "/v1/scheduler"),
        ("POST", "/healthz"),
        ("GET", "/anything/else"),
        ("GET", "/v2/health/../../v1/scheduler"),
    ],
)
def test_everything_that_works_asks_for_a_key(guarded: Any, method: str, path: str, png: Image) -> None:
    content = png(8, 8) if method == "POST" else None
    response = guarded.client.request(method, path, content=content)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers.get("connection") != "close"
    assert response.headers["x-request-id"]
    wrong = guarded.client.request(method, path, content=content, headers={"X-API-Key": ADA + "x"})
    assert_problem(wrong, 401, "unauthorized")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/limits"])
def test_health_and_description_are_open(guarded: Any, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_the_page_and_all_that_it_is_made_of_are_open(guarded: Any) -> None:
    page = guarded.client.get("/", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    parts = re.findall(r'(?:href|src)="(web/[^"]+)"', page.text)
    assert parts
    for part in parts:
        assert guarded.client.get(f"/{part}").status_code == 200, part


def test_openapi_says_where_a_key_is_asked_for(guarded: Any, server: Any) -> None:
    schema = guarded.client.get("/openapi.json").json()
    assert schema["security"] == [{"bearer": []}, {"apiKey": []}]
    assert schema["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"
    restore, health = schema["paths"]["/restore"]["post"], schema["paths"]["/healthz"]["get"]
    assert {"401", "403", "429"} <= restore["responses"].keys()
    assert "quota-exceeded" in restore["responses"]["429"]["description"]
    assert "queue-full" in restore["responses"]["429"]["description"]
    assert health["security"] == []
    assert "401" not in health["responses"]
    assert "security" not in server.client.get("/openapi.json").json()


def test_a_good_key_lets_in_beside_the_credentials_of_a_proxy(guarded: Any) -> None:
    for headers in (
        [("Authorization", "Bearer of-the-proxy"), ("X-API-Key", ADA)],
        [("Authorization", f"Bearer {ADA}"), ("X-API-Key", "of-the-proxy")],
        [("X-API-Key", "of-the-proxy"), ("X-API-Key", ADA)],
        [("X-API-Key", ADA), ("X-API-Key", "of-the-proxy")],
        [("Authorization", "Basic YTpi"), ("Authorization", f"Bearer {ADA}")],
        [("X-API-Key", f"of-the-proxy, {ADA}")],
    ):
        assert guarded.client.get("/v1/scheduler", headers=headers).status_code == 200, headers


def test_answers_are_for_their_key_alone(guarded: Any, png: Image) -> None:
    """Shared caches keep no response for another key, and browsers do not sniff its type."""
    with Client(guarded.url, ADA) as ada:
        job = ada.submit(png(8, 8, seed=31))
        ada.wait(job, timeout=30)
    mine = {"X-API-Key": ADA}
    answers = [
        guarded.client.post("/restore", content=png(8, 8, seed=30), headers=mine),
        guarded.client.post("/restore", content=b"", headers=mine),
        guarded.client.get(f"/v1/jobs/{job.id}/result", headers=mine),
        guarded.client.get(f"/v1/jobs/{job.id}", headers=mine),
        guarded.client.get(f"/v1/jobs/{'0' * 32}", headers=mine),
        guarded.client.get("/v1/scheduler", headers=mine),
        guarded.client.get("/v1/scheduler"),
        guarded.client.get("/nothing", headers=mine),
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 200, 200, 404, 200, 401, 404]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] in ("private", "no-store")
        assert {"Authorization", "X-API-Key"} <= set(answer.headers["vary"].split(", ")), answer.headers["vary"]
    assert "Accept" in answers[0].headers["vary"].split(", ")


def test_a_large_upload_without_a_key_gets_its_answer_unread(guarded: Any) -> None:
    response = httpx.post(f"{guarded.url}/restore", content=b"x" * (8 << 20), timeout=30)
    assert_problem(response, 401, "unauthorized")
    assert guarded.metric("promptir_upload_bytes") == 0


def test_the_client_shows_its_key_and_says_what_is_wrong_with_it(guarded: Any, png: Image) -> None:
    with Client(guarded.url, ADA) as ada, Client(guarded.url, EVE) as eve, Client(guarded.url) as nobody:
        assert ada.restore(png(8, 8, seed=2)).data
        with pytest.raises(Forbidden, match="suspended"):
            eve.restore(png(8, 8))
        with pytest.raises(Unauthorized):
            nobody.restore(png(8, 8))


def test_the_command_line_shows_its_key_and_gives_up_at_once_without(
    guarded: Any, png: Image, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / f"in/{number}.png").write_bytes(png(8, 8, seed=20 + number))
    (tmp_path / "key").write_text(f"{ADA}\n")
    asked = ("restore", tmp_path / "in", tmp_path / "out", "--server", guarded.url)
    refused = command(*asked, "--jobs", 1)
    assert refused.returncode == 1
    assert "0 restored, 4 left of 4 images" in refused.stderr
    assert "401 unauthorized" in refused.stderr.splitlines()[-1]
    assert command(*asked, "--resume", "--api-key-file", tmp_path / "key").returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_jobs_belong_to_the_key_that_made_them(guarded: Any, png: Image) -> None:
    with Client(guarded.url, ADA) as ada, Client(guarded.url, BOB) as bob:
        job = ada.submit(png(24, 24, seed=7))
        assert ada.wait(job, timeout=30).data
        for call in (bob.job, bob.wait, bob.cancel):
            with pytest.raises(NotFound) as absent:
                call(job)
            assert absent.value.slug == "unknown-job"
        unknown = guarded.client.get(f"/v1/jobs/{'0' * 32}", headers={"X-API-Key": BOB}).json()["detail"]
        assert absent.value.detail.replace(job.id, "0" * 32) == unknown
        assert ada.job(job).state == "done"
        ada.cancel(job)


def test_pages_of_other_origins_may_call_only_where_they_are_named(guarded: Any, server: Any, png: Image) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = guarded.client.options("/restore", headers={"Origin": ORIGIN} | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    headers = {"Origin": ORIGIN, "Authorization": f"Bearer {ADA}"}
    allowed = guarded.client.post("/restore", content=png(8, 8, seed=8), headers=headers)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Restore-Mode" in allowed.headers["access-control-expose-headers"]
    refused = guarded.client.post("/restore", content=png(8, 8), headers={"Origin": ORIGIN})
    assert refused.headers["access-control-allow-origin"] == ORIGIN  # the page needs the reason
    other = {"Origin": "https://elsewhere.example"}
    assert guarded.client.options("/restore", headers=other | asked).status_code == 400
    silent = server.client.post("/restore", content=png(8, 8), headers={"Origin": ORIGIN})
    assert not [name for name in silent.headers if name.startswith("access-control")]


def test_the_metrics_move_to_their_own_port(start: Any, png: Image) -> None:
    server = start(metrics_port=0)
    (line,) = [line for line in server.lines if line["message"] == "metrics listening"]
    server.until(lambda: server.client.get("/readyz").status_code == 200)
    server.client.post("/restore", content=png(8, 8))
    page = httpx.get(f"http://127.0.0.1:{line['port']}/metrics").text
    assert 'promptir_requests_total{outcome="restored",status="200"} 1.0' in page
    assert server.client.get("/metrics").status_code == 404
    server.terminate()
    assert server.wait() == 0


def test_keys_are_made_by_the_command_line_and_a_bad_file_stops_the_start(tmp_path: Path, command: Command) -> None:
    made = command("key", "new", "--name", "ada", "--requests-per-minute", 30)
    assert made.returncode == 0
    keys = tmp_path / "keys"
    keys.write_text(made.stdout)
    assert made.stdout.startswith("ada sha256:")
    assert made.stdout.endswith(" requests_per_minute=30\n")
    assert made.stderr.startswith("promptir_")
    (label,) = {
        line.split()[0]
        for line in command("key", "labels", "--keys-file", keys).stdout.splitlines()
        if line.endswith(" ada")
    }
    assert len(label) == 12
    keys.write_text("ada secret")
    refused = command("serve", "--port", 0, backend="simulated", keys_file=keys)
    assert refused.returncode == 1
    assert "line 1 is not NAME sha256:HEX" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process with prlimit")
def test_uploads_are_written_to_no_disk_but_for_jobs(start: Any, png: Image, tmp_path: Path) -> None:
    """The kernel refuses all writes to files, temporary files included, but not to pipes and sockets."""
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    large = png(900, 1200, seed=9)
    assert len(large) > 3 << 20
    for request in ({"content": large}, {"files": {"file": ("a.png", large, "image/png")}}):
        for output in ("png", "jpeg", "webp", "avif", "tiff"):
            response = server.client.post(f"/restore?format={output}&tile=512&strength=0.9", **request)
            assert response.status_code == 200, response.text
    assert_problem(server.client.post("/v1/jobs", content=large), 507, "disk-full")


def test_a_key_in_an_address_is_in_no_line_of_the_log(guarded: Any) -> None:
    for target in (f"/{ADA}", f"/restore/{ADA}?key={ADA}", f"/v2/models/{ADA}/infer", f"/v1/jobs/{ADA}"):
        for method in ("GET", "POST"):
            guarded.client.request(method, target, headers={"X-API-Key": BOB})
    guarded.client.post("/restore", headers={"X-API-Key": BOB, "X-Request-ID": ADA})
    guarded.until(lambda: any(line.get("request_id") == "promptir_***" for line in guarded.lines))
    assert any(line.get("path") == "/promptir_***" for line in guarded.lines)
    assert ADA[9:] not in json.dumps(guarded.lines)
