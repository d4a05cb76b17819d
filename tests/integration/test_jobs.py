"""Long work, through a real server."""

import json
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problems import assert_problem

from promptir_client import Client

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
PROBLEM = "urn:promptir:problem:"


@pytest.fixture(scope="module")
def jobs(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that keeps jobs; shared, so that no test may stop it."""
    return session_start(jobs_folder=tmp_path_factory.mktemp("jobs")).until_ready()


def submitted(server: Any, data: bytes, query: str = "", **request: Any) -> str:
    """The path of a new job."""
    response = server.client.post(f"/v1/jobs{query}", content=data, **request)
    assert response.status_code == 202, response.text
    location: str = response.headers["location"]
    assert response.json()["links"]["self"] == location
    return location


def ended(server: Any, path: str) -> dict[str, Any]:
    """The document of a job once it has its final state."""
    server.until(lambda: server.client.get(path).json()["state"] not in ("queued", "running"))
    document: dict[str, Any] = server.client.get(path).json()
    return document


def events_of(server: Any, path: str, last: str | None = None) -> Iterator[dict[str, str]]:
    """The events of a job, each with its fields; comments as {"": text}."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with server.client.stream("GET", f"{path}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(":")
                event[name] = value.strip()
            elif event:
                yield event
                event = {}


def test_a_job_is_restored_as_the_same_request_would_be(jobs: Any, png: Image, samples: Samples) -> None:
    data = png(40, 56, dtype=np.uint16)
    path = submitted(jobs, data, "?format=png&effort=small&report=true")
    document = ended(jobs, path)
    assert document["state"] == "done"
    assert document["tiles"] == {"done": 1, "total": 1}
    assert document["problem"] is None
    assert document["options"]["effort"] == "small"
    assert (document["result"]["width"], document["result"]["height"]) == (56, 40)
    assert document["result"]["report"]["change"]["max_abs"] == 0
    response = jobs.client.get(document["links"]["result"])
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-restore-mode"] == "whole"
    np.testing.assert_array_equal(samples(response.content), samples(data))
    assert response.content == jobs.client.post("/restore?effort=small", content=data).content


def test_what_a_result_lacks_of_the_upload_is_said(jobs: Any, png: Image) -> None:
    path = submitted(jobs, png(8, 8, dtype=np.uint16), "?format=jpeg")
    assert ended(jobs, path)["result"]["dropped"] == ["bit-depth"]
    assert jobs.client.get(f"{path}/result").headers["x-restore-dropped"] == "bit-depth"
    with Client(jobs.url) as client:
        assert client.wait(client.submit(png(8, 8, dtype=np.uint16), format="jpeg")).dropped == ("bit-depth",)
        assert client.restore(png(8, 8, dtype=np.uint16), format="jpeg").dropped == ("bit-depth",)
    path = submitted(jobs, png(8, 8))
    assert ended(jobs, path)["result"]["dropped"] == []
    assert "x-restore-dropped" not in jobs.client.get(f"{path}/result").headers


def test_the_format_of_the_upload_and_its_name_are_kept(jobs: Any, png: Image) -> None:
    response = jobs.client.post("/v1/jobs?format=same", files={"file": ("holiday.png", png(8, 8), "image/png")})
    assert response.json()["filename"] == "holiday.png"
    path = response.headers["location"]
    ended(jobs, path)
    result = jobs.client.get(f"{path}/result")
    assert 'filename="holiday-restored.png"' in result.headers["content-disposition"]
    again = jobs.client.get(f"{path}/result", headers={"If-None-Match": result.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_restore_refuses_is_refused_before_it_is_stored(jobs: Any, png: Image) -> None:
    before = jobs.metric("promptir_jobs_bytes")
    assert_problem(jobs.client.post("/v1/jobs", content=b""), 400, "empty-upload")
    assert_problem(jobs.client.post("/v1/jobs", content=b"no image, whatever it says"), 415, "unsupported-image")
    assert_problem(jobs.client.post("/v1/jobs?quality=0", content=png(8, 8)), 400, "invalid-request")
    assert_problem(jobs.client.post("/v1/jobs?tile=64&overlap=64", content=png(128, 128)), 400, "invalid-request")
    huge = png(1, 1)[:16] + (60_000).to_bytes(4) * 2 + png(1, 1)[24:]
    assert_problem(jobs.client.post("/v1/jobs", content=huge), 413, "image-too-large")
    assert jobs.metric("promptir_jobs_bytes") == before


def test_an_image_that_breaks_while_it_is_decoded_fails_the_job_with_its_problem(jobs: Any, png: Image) -> None:
    data = png(64, 64)
    path = submitted(jobs, data[:1000] + bytes(500) + data[1500:])
    document = ended(jobs, path)
    assert document["state"] == "failed"
    assert document["problem"]["type"] == PROBLEM + "undecodable-image"
    assert document["problem"]["status"] == 422
    assert document["problem"]["instance"] == f"urn:promptir:job:{document['id']}"
    assert assert_problem(jobs.client.get(f"{path}/result"), 409, "job-unfinished")["state"] == "failed"
    events = list(events_of(jobs, path))
    assert events[-1]["event"] == "failed"
    assert json.loads(events[-1]["data"])["problem"]["type"] == PROBLEM + "undecodable-image"


def test_an_unknown_job_is_unknown_to_every_route(jobs: Any) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")):
        assert_problem(jobs.client.request(method, f"/v1/jobs/{'0' * 32}{path}"), 404, "unknown-job")


def test_without_a_folder_there_are_no_jobs_and_the_answer_says_how_to_have_them(server: Any, png: Image) -> None:
    for method, path in (("POST", ""), ("GET", "/x"), ("GET", "/x/result"), ("GET", "/x/events"), ("DELETE", "/x")):
        problem = assert_problem(server.client.request(method, f"/v1/jobs{path}", content=png(8, 8)), 501, "jobs-off")
        assert "PROMPTIR_JOBS_FOLDER" in problem["detail"]


def test_deleting_a_finished_job_removes_it_and_its_file(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path).until_ready()
    path = submitted(server, png(8, 8))
    ended(server, path)
    assert len(list((tmp_path / "results").iterdir())) == 1
    assert server.client.delete(path).status_code == 204
    assert_problem(server.client.get(path), 404, "unknown-job")
    assert list((tmp_path / "results").iterdir()) == list((tmp_path / "uploads").iterdir()) == []
    assert server.metric("promptir_jobs_bytes") == 0


def test_deleting_a_running_job_takes_its_tiles_out_of_the_queue(start: Any, png: Image, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    # Without the guide, for which tiles wait: the first run that ends is counted.
    settings = {"jobs_folder": folder, "simulated_base_ms": 100, "max_batch": 1, "tone_guide": False}
    server = start(gate=tmp_path / "gate", **settings).until_ready()
    with server.holding():
        path = submitted(server, png(256, 256), "?tile=64&overlap=0")
        server.until(server.running)
        server.end_one()
        server.until(lambda: server.client.get(path).json()["tiles"]["done"] == 1)
        document = server.client.get(path).json()
        assert document["state"] == "running"
        assert document["tiles"]["total"] == 16
        assert 0 < document["time_left_s"] < 300
        assert_problem(server.client.get(f"{path}/result"), 409, "job-unfinished")
        assert server.client.delete(path).status_code == 204
        assert server.client.get(path).json()["state"] == "cancelled"
        server.until(lambda: server.metric("promptir_queue_tiles") == 0)
        assert [event["event"] for event in events_of(server, path) if "event" in event] == ["cancelled"]
    assert server.client.post("/restore", content=png(8, 8)).status_code == 200
    assert list((folder / "uploads").iterdir()) == []


def test_events_tell_each_step_and_can_be_taken_up_again(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path, simulated_base_ms=50, max_batch=1).until_ready()
    path = submitted(server, png(192, 192), "?tile=64&overlap=0")
    events = [event for event in events_of(server, path) if "event" in event]
    assert [event["event"] for event in events[-2:]] == ["progress", "done"]
    done = [json.loads(event["data"])["tiles"]["done"] for event in events]
    assert done == sorted(done)
    assert len(set(done)) > 4
    assert done[-1] == 10  # with the guide
    later = [event["id"] for event in events_of(server, path, events[2]["id"]) if "event" in event]
    assert later == [events[-1]["id"]]
    over = server.client.get(f"{path}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert (over.status_code, over.content) == (204, b"")


def test_results_and_waiting_jobs_survive_a_restart(start: Any, png: Image, samples: Samples, tmp_path: Path) -> None:
    first = start(jobs_folder=tmp_path, simulated_base_ms=300, max_batch=1).until_ready()
    image = png(16, 16)
    finished = submitted(first, image)
    ended(first, finished)
    waiting = [submitted(first, png(16, 16, seed=seed)) for seed in range(1, 6)]
    first.terminate()
    assert first.wait() == 0
    second = start(jobs_folder=tmp_path).until_ready()
    np.testing.assert_array_equal(samples(second.client.get(f"{finished}/result").content), samples(image))
    for seed, path in enumerate(waiting, 1):
        assert ended(second, path)["state"] == "done"
        np.testing.assert_array_equal(
            samples(second.client.get(f"{path}/result").content), samples(png(16, 16, seed=seed))
        )


def test_a_drain_begins_no_further_job_and_ends_the_events(start: Any, png: Image, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    server = start(gate=tmp_path / "gate", jobs_folder=folder, max_batch=1, drain_timeout_s=60).until_ready()
    with ThreadPoolExecutor(1) as watcher:
        with server.holding():
            paths = [submitted(server, png(8, 8, seed=seed)) for seed in range(6)]
            watched = watcher.submit(lambda: list(events_of(server, paths[-1])))
            server.until(lambda: server.metric('promptir_jobs{state="running"}') == 2)
            server.until(server.running)
            server.terminate()
            server.until(lambda: any(line["message"] == "draining" for line in server.lines))
        assert server.wait() == 0
        assert {event.get("event") for event in watched.result()} <= {None, "progress"}
    done = [line for line in server.lines if line["message"] == "job done"]
    assert len(done) <= 2
    assert not [line for line in server.lines if line["level"] == "ERROR"]
    again = start(jobs_folder=folder).until_ready()
    assert {ended(again, path)["state"] for path in paths} == {"done"}


def test_over_the_budget_jobs_are_refused_and_no_kept_result_goes(start: Any, png: Image, tmp_path: Path) -> None:
    budget = 250_000
    server = start(jobs_folder=tmp_path, jobs_max_bytes=budget).until_ready()
    kept = submitted(server, png(100, 100))
    ended(server, kept)
    second = submitted(server, png(100, 100, seed=1))
    ended(server, second)
    answers = [server.client.post("/v1/jobs", content=png(100, 100, seed=2)) for _ in range(4)]
    while answers[-1].status_code == 202:
        ended(server, answers[-1].headers["location"])
        answers.append(server.client.post("/v1/jobs", content=png(100, 100, seed=3)))
    for accepted in (answer for answer in answers if answer.status_code == 202):
        ended(server, accepted.headers["location"])  # their results take room as well
    refused = answers[-1]
    problem = assert_problem(refused, 429, "jobs-full")
    assert str(budget) in problem["detail"]
    assert problem["jobs_max_bytes"] == budget
    assert int(refused.headers["retry-after"]) > 3600
    assert server.metric('promptir_refusals_total{reason="jobs-full"}') >= 1
    assert server.client.get(f"{kept}/result").status_code == 200
    assert_problem(server.client.post("/v1/jobs", content=png(400, 400)), 507, "disk-full")
    server.client.delete(kept)
    submitted(server, png(50, 50))


def test_a_result_expires_after_its_time_and_says_so(start: Any, png: Image, tmp_path: Path) -> None:
    # For as long as it was kept it is known to have expired: time enough to be seen.
    server = start(jobs_folder=tmp_path, jobs_keep_hours=5 / 3600).until_ready()
    path = submitted(server, png(8, 8))
    server.until(lambda: server.client.get(path).status_code == 410)
    assert_problem(server.client.get(f"{path}/result"), 410, "job-expired")
    assert list((tmp_path / "results").iterdir()) == []


def test_only_the_user_of_the_server_can_read_the_files(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path / "new" / "jobs").until_ready()
    ended(server, submitted(server, png(8, 8)))
    for path in (tmp_path / "new" / "jobs").rglob("*"):
        if path.parent.name in ("results", "uploads"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_is_in_use_or_cannot_be_used_is_said_in_one_sentence(
    start: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    start(jobs_folder=tmp_path)
    taken = command("serve", "--backend", "simulated", "--port", 0, "--jobs-folder", tmp_path)
    assert taken.returncode == 1
    assert "in use" in taken.stderr
    (tmp_path / "file").touch()
    unusable = command("serve", "--backend", "simulated", "--port", 0, "--jobs-folder", tmp_path / "file")
    assert unusable.returncode == 1
    assert "cannot be used" in unusable.stderr
    assert "Traceback" not in taken.stderr + unusable.stderr


def test_the_document_has_each_route_and_each_of_its_problems(jobs: Any) -> None:
    paths = jobs.client.get("/openapi.json").json()["paths"]
    found = {
        (method, path.removeprefix("/v1/jobs")): " ".join(sorted(operation["responses"]))
        for path, operations in paths.items()
        if path.startswith("/v1/jobs")
        for method, operation in operations.items()
    }
    assert found == {
        ("post", ""): "202 400 404 406 408 413 415 422 429 501 503 507",
        ("get", "/{job_id}"): "200 404 410 500 501 503",
        ("delete", "/{job_id}"): "204 404 410 500 501 503 507",
        ("get", "/{job_id}/result"): "200 304 404 409 410 500 501 503",
        ("get", "/{job_id}/events"): "200 204 404 410 500 501 503",
    }
    submission, restoration = paths["/v1/jobs"]["post"], paths["/restore"]["post"]
    bodies = {*restoration["requestBody"]["content"], "application/zip"}
    assert set(submission["requestBody"]["content"]) == bodies
    webhook = [parameter for parameter in submission["parameters"] if parameter["name"] == "webhook"]
    assert len(webhook) == 1
    assert [one for one in submission["parameters"] if one not in webhook] == restoration["parameters"]
