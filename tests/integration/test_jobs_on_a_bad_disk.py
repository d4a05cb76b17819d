"""Long work whose files, folder or disk fail under way, through a real server: sentences, readiness, and the return."""

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from problems import assert_problem

from server.access.keys_file import Terms, new_key

Image = Callable[..., bytes]


def submitted(server: Any, data: bytes) -> str:
    """The path of a new job."""
    response = server.client.post("/v1/jobs", content=data)
    assert response.status_code == 202, response.text
    location: str = response.headers["location"]
    return location


def is_done(server: Any, path: str) -> bool:
    response: httpx.Response = server.client.get(path)
    return response.status_code == 200 and response.json()["state"] == "done"


def no_surprises(server: Any) -> None:
    """Nothing was answered or logged as unforeseen."""
    assert not [line for line in server.lines if "unexpectedly" in line["message"] or "traceback" in line]


@pytest.mark.parametrize("kind", ["emptied", "cut", "gone", "link", "pipe"])
def test_a_result_that_was_tampered_with_is_a_500_with_a_sentence(
    start: Any, png: Image, tmp_path: Path, kind: str
) -> None:
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    path = submitted(server, png(8, 8))
    server.until(lambda: is_done(server, path))
    (result,) = (tmp_path / "jobs" / "results").iterdir()
    content = result.read_bytes()
    result.unlink()
    if kind in ("emptied", "cut"):
        result.write_bytes(content[:-1] if kind == "cut" else b"")
    elif kind == "link":
        result.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(result)
    problem = assert_problem(server.client.get(f"{path}/result"), 500, "job-damaged")
    assert "has changed on the disk" in problem["detail"]
    assert server.client.get("/readyz").status_code == 200
    assert server.client.delete(path).status_code == 204
    no_surprises(server)


def test_a_folder_that_goes_and_comes_back_costs_no_job(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path / "jobs", simulated_base_ms=200, max_batch=1).until_ready()
    done = submitted(server, png(8, 8))
    server.until(lambda: is_done(server, done))
    paths = [submitted(server, png(8, 8, seed=seed)) for seed in range(1, 6)]
    (tmp_path / "jobs").rename(tmp_path / "away")
    problem = assert_problem(server.client.post("/v1/jobs", content=png(8, 8)), 503, "jobs-unavailable")
    assert problem["detail"] == "The jobs folder or a part of it is missing."
    assert_problem(server.client.get(f"{done}/result"), 503, "jobs-unavailable")
    server.until(lambda: server.client.get("/readyz").status_code == 503)
    assert server.client.get("/readyz").json() == {"status": "jobs-unavailable", "jobs": problem["detail"]}
    assert server.client.get("/v1/health/ready").json()["message"] == problem["detail"]
    assert server.client.get("/healthz").status_code == 200
    assert server.client.post("/restore", content=png(8, 8)).status_code == 200
    (tmp_path / "away").rename(tmp_path / "jobs")
    server.until(lambda: all(is_done(server, path) for path in [done, *paths]))
    assert server.client.get("/readyz").json() == {"status": "ready"}
    no_surprises(server)


@pytest.mark.parametrize("name", ["results", "uploads"])
def test_a_link_in_the_place_of_a_folder_of_jobs_is_not_followed(
    start: Any, png: Image, tmp_path: Path, name: str
) -> None:
    server = start(jobs_folder=tmp_path / "jobs", simulated_base_ms=300, max_batch=1).until_ready()
    done = submitted(server, png(8, 8))
    server.until(lambda: is_done(server, done))
    folder, away = tmp_path / "jobs" / name, tmp_path / "away"
    folder.rename(away)
    before = {path.name for path in away.iterdir()}
    folder.symlink_to(away)  # what was there is there, as an attacker would have it
    refused = assert_problem(server.client.post("/v1/jobs", content=png(8, 8, seed=1)), 503, "jobs-unavailable")
    assert refused["detail"] == (
        f"The jobs folder has something else in the place of its folder {name}, and no link is followed."
    )
    server.until(lambda: server.client.get("/readyz").status_code == 503)
    assert server.client.get("/readyz").json() == {"status": "jobs-unavailable", "jobs": refused["detail"]}
    if name == "results":
        assert_problem(server.client.get(f"{done}/result"), 503, "jobs-unavailable")
    assert {path.name for path in away.iterdir()} == before
    assert server.client.post("/restore", content=png(8, 8)).status_code == 200
    folder.unlink()
    away.rename(folder)
    server.until(lambda: server.client.get("/readyz").json() == {"status": "ready"})
    assert server.client.get(f"{done}/result").status_code == 200
    no_surprises(server)


@pytest.mark.parametrize("kind", ["cut", "in place"])
def test_a_database_that_is_overwritten_is_said_in_every_answer(
    kind: str, start: Any, png: Image, tmp_path: Path
) -> None:
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    path = submitted(server, png(8, 8))
    server.until(lambda: is_done(server, path))
    for file in (tmp_path / "jobs").glob("jobs.sqlite3*"):
        with file.open("wb" if kind == "cut" else "r+b") as opened:
            opened.write(os.urandom(max(4096, file.stat().st_size)))
    server.until(lambda: server.client.get("/readyz").status_code == 503)
    for method, target in (
        ("POST", "/v1/jobs"), ("GET", path), ("GET", f"{path}/result"), ("GET", f"{path}/events"), ("DELETE", path)
    ):  # fmt: skip
        response = server.client.request(method, target, content=png(8, 8) if method == "POST" else None)
        assert_problem(response, 503, "jobs-unavailable")
    assert server.client.get("/readyz").status_code == 503
    assert server.client.post("/restore", content=png(8, 8)).status_code == 200
    server.terminate()
    assert server.wait() == 0
    no_surprises(server)


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process with prlimit")
def test_a_disk_that_takes_no_more_bytes_is_507_and_work_resumes_with_room(
    start: Any, png: Image, tmp_path: Path
) -> None:
    """The kernel refuses each byte beyond a file's first few, as a disk does that is full."""
    server = start(gate=tmp_path / "gate", jobs_folder=tmp_path / "jobs", max_batch=1).until_ready()
    with server.holding():
        paths = [submitted(server, png(64, 64, seed=seed)) for seed in range(3)]
        server.until(server.running)
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (100, hard))
    server.until(lambda: [line for line in server.lines if line["message"] == "the jobs cannot be used"])
    for _ in range(3):
        refused = server.client.post("/v1/jobs", content=png(64, 64))
        assert refused.status_code in (503, 507), refused.text
        assert len(refused.json()["detail"].split()) > 5
        assert server.client.get(paths[0]).status_code == 200
        assert server.client.delete(paths[2]).status_code in (204, 503, 507)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    server.until(lambda: is_done(server, paths[0]) and is_done(server, paths[1]))
    server.until(lambda: server.client.get("/readyz").json() == {"status": "ready"})
    submitted(server, png(64, 64))
    no_surprises(server)


def test_one_key_cannot_fill_the_budget_of_the_jobs(start: Any, png: Image, tmp_path: Path) -> None:
    (ada, ada_line), (bob, bob_line) = new_key("ada", Terms()), new_key("bob", Terms())
    (tmp_path / "keys").write_text(f"{ada_line}\n{bob_line}\n")
    server = start(
        jobs_folder=tmp_path / "jobs", jobs_max_bytes=2_000_000, keys_file=tmp_path / "keys", simulated_base_ms=500
    ).until_ready()
    answers = [server.client.post("/v1/jobs", content=png(8, 8), headers={"X-API-Key": bob}) for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(refused) > 20
    assert "others have room" in assert_problem(refused[0], 429, "jobs-full")["detail"]
    mine = server.client.post("/v1/jobs", content=png(8, 8), headers={"X-API-Key": ada})
    assert mine.status_code == 202
    headers = {"X-API-Key": ada}
    server.until(lambda: server.client.get(mine.headers["location"], headers=headers).json()["state"] == "done")
    waiting = server.metric('promptir_jobs{state="queued"}')
    assert waiting > 3  # it did not wait for all of the other's
