"""Batches of `/v1/jobs`, through a real server: several photos in, one archive out."""

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import zipped
from problems import assert_problem

from promptir_client import AsyncClient, Client, InvalidRequest, Job, RestoredBatch

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def jobs(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that keeps jobs; shared, so that no test may stop it."""
    folder = tmp_path_factory.mktemp("jobs")
    return session_start(jobs_folder=folder, max_upload_bytes=MAX_BYTES).until_ready()


def ended(server: Any, path: str) -> dict[str, Any]:
    server.until(lambda: server.client.get(path).json()["state"] not in ("queued", "running"))
    document: dict[str, Any] = server.client.get(path).json()
    return document


def opened(response: Any) -> zipfile.ZipFile:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    return archive


def test_several_parts_of_a_form_become_one_archive(jobs: Any, png: Image, samples: Samples) -> None:
    photos = [("image", ("a.png", png(8, 9))), ("image", ("a.png", png(9, 8))), ("image", ("../../b.jpg", png(7, 7)))]
    response = jobs.client.post("/v1/jobs?format=webp&quality=80", files=photos)
    assert response.status_code == 202, response.text
    path = response.headers["location"]
    assert response.json()["links"]["self"] == path
    document = ended(jobs, path)
    assert (document["state"], document["counts"]) == ("done", {"done": 3})
    assert document["options"]["format"] == "webp"
    assert document["tiles"] == {"done": 3, "total": 3}
    assert document["expires_at"] is not None
    assert [photo["filename"] for photo in document["photos"]] == ["a.png", "a.png", "../../b.jpg"]
    result = jobs.client.get(document["links"]["result"])
    assert sorted(opened(result).namelist()) == ["a-2.webp", "a.webp", "b.webp"]
    assert jobs.client.get(f"{path}/result", headers={"If-None-Match": result.headers["etag"]}).status_code == 304
    one = document["photos"][1]
    assert jobs.client.get(one["links"]["result"]).content == opened(result).read("a-2.webp")
    assert jobs.client.get(one["links"]["self"]).json()["state"] == "done"


@pytest.mark.parametrize("as_form", [True, False])
def test_an_archive_becomes_an_archive_with_its_folders(jobs: Any, png: Image, samples: Samples, as_form: bool) -> None:
    sent = zipped({"trip/": b"", "trip/one.png": png(8, 9), "two.png": png(9, 8), "__MACOSX/._two.png": b"junk"})
    request = {"files": {"file": ("trip.zip", sent)}} if as_form else {"content": sent}
    response = jobs.client.post("/v1/jobs", **request)
    assert response.status_code == 202, response.text
    document = ended(jobs, response.headers["location"])
    assert document["filename"] == ("trip.zip" if as_form else None)
    archive = opened(jobs.client.get(document["links"]["result"]))
    assert sorted(archive.namelist()) == ["trip/one.png", "two.png"]
    np.testing.assert_array_equal(samples(archive.read("trip/one.png")), samples(png(8, 9)))


def test_a_bad_photo_fails_alone_and_is_listed(jobs: Any, png: Image) -> None:
    whole = png(64, 64)
    damaged = whole[:1000] + bytes(500) + whole[1500:]  # its header is sound: it fails while it is decoded
    sent = zipped({"good.png": png(8, 9), "notes.txt": b"hello", "cut.png": damaged})
    document = ended(jobs, jobs.client.post("/v1/jobs", content=sent).headers["location"])
    assert document["state"] == "done"
    assert document["counts"] == {"done": 1, "failed": 2}
    archive = opened(jobs.client.get(document["links"]["result"]))
    assert sorted(archive.namelist()) == ["errors.json", "good.png"]
    listed = {
        each["filename"]: each["problem"]["type"].rpartition(":")[2] for each in json.loads(archive.read("errors.json"))
    }
    assert listed == {"notes.txt": "unsupported-image", "cut.png": "undecodable-image"}
    told = {photo["filename"]: photo["problem"] and photo["problem"]["detail"] for photo in document["photos"]}
    assert told["good.png"] is None
    assert "not an image" in told["notes.txt"]


def test_a_batch_without_a_good_photo_is_refused_at_once(jobs: Any) -> None:
    assert_problem(jobs.client.post("/v1/jobs", content=zipped({"a.txt": b"hello"})), 415, "unsupported-image")


def test_events_tell_of_each_photo_and_end_with_the_last(jobs: Any, png: Image) -> None:
    photos = [("image", (f"{n}.png", png(8, 8 + n))) for n in range(5)]
    path = jobs.client.post("/v1/jobs", files=photos).headers["location"]
    with jobs.client.stream("GET", f"{path}/events") as response:
        lines = [line for line in response.iter_lines() if line.startswith(("event", "data", "id"))]
    assert lines[-2] == "event: done"
    last = json.loads(lines[-1].removeprefix("data: "))
    assert (last["counts"], last["photos"]) == ({"done": 5}, None)
    mark = lines[-3].removeprefix("id: ")
    assert jobs.client.get(f"{path}/events", headers={"Last-Event-ID": mark}).status_code == 204


def test_deleting_a_finished_batch_removes_everything(jobs: Any, png: Image) -> None:
    photos = [("image", ("a.png", png(8, 9))), ("image", ("b.png", png(9, 8)))]
    document = ended(jobs, jobs.client.post("/v1/jobs", files=photos).headers["location"])
    path, one = document["links"]["self"], document["photos"][0]["links"]["self"]
    assert jobs.client.delete(one).status_code == 204
    assert opened(jobs.client.get(f"{path}/result")).namelist() == ["b.png"]
    assert jobs.client.delete(path).status_code == 204
    assert_problem(jobs.client.get(path), 404, "unknown-job")
    assert_problem(jobs.client.get(document["photos"][1]["links"]["self"]), 404, "unknown-job")


def test_a_batch_survives_a_kill_and_an_unfinished_one_can_be_cancelled(start: Any, png: Image, tmp_path: Path) -> None:
    settings = {"gate": tmp_path / "gate", "jobs_folder": tmp_path / "jobs", "max_batch": 1}
    server = start(**settings).until_ready()
    photos = zipped({f"{n}.png": png(8, 8, seed=n) for n in range(6)})
    with server.holding():
        path = server.client.post("/v1/jobs", content=photos).headers["location"]
        server.until(server.running)
        server.end_one()
        server.until(lambda: server.client.get(path).json()["counts"].get("done", 0) == 1)
        assert_problem(server.client.get(f"{path}/result"), 409, "job-unfinished")
        assert server.client.get(path).json()["expires_at"] is None
        server.stop()
        again = start(**settings).until_ready()
        document = again.client.get(path).json()
        assert document["state"] == "running"
        assert sum(document["counts"].values()) == 6
        assert again.client.delete(path).status_code == 204
    document = ended(again, path)
    assert document["state"] == "done"
    assert document["counts"] == {"done": 1, "cancelled": 5}
    archive = opened(again.client.get(f"{path}/result"))
    assert len(archive.namelist()) == 2
    assert len(json.loads(archive.read("errors.json"))) == 5


def test_names_below_the_present_folder_are_kept_and_results_collide_with_nothing(jobs: Any, png: Image) -> None:
    names = ["./a.png", "b/./c.png", "errors.json/d.png", "e", "e.png/f.png"]
    submitted = jobs.client.post("/v1/jobs", content=zipped({name: png(16, 16) for name in names}))
    assert submitted.status_code == 202, submitted.text
    path = submitted.json()["links"]["self"]
    assert ended(jobs, path)["counts"]["done"] == len(names)
    found = opened(jobs.client.get(f"{path}/result")).namelist()
    assert found == ["a.png", "b/c.png", "errors.json_d.png", "e.png", "e.png_f.png"]


def test_a_batch_that_exceeds_the_budget_is_refused_as_a_whole(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path / "jobs", jobs_max_bytes=250_000).until_ready()
    photos = [("image", (f"{n}.png", png(8, 8))) for n in range(8)]
    assert_problem(server.client.post("/v1/jobs", files=photos), 507, "disk-full")
    assert list((tmp_path / "jobs/uploads").iterdir()) == []
    assert server.client.post("/v1/jobs", files=photos[:2]).status_code == 202


def test_the_client_sends_photos_and_reads_the_archive(jobs: Any, png: Image, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 9))
    seen: list[Job] = []
    with Client(jobs.url) as client:
        job = client.submit_batch([tmp_path / "a.png", png(9, 8), np.zeros((5, 6, 3), np.uint8)], format="webp")
        restored = client.wait_batch(job, seen.append)
        with pytest.raises(TypeError, match="wait_batch"):
            client.wait(job)
        with pytest.raises(TypeError, match="use wait"):
            client.wait_batch(client.submit(png(8, 8)))
        with pytest.raises(InvalidRequest, match="PROMPTIR_WEBHOOK_HOSTS"):
            client.submit_batch({"a.png": png(8, 8)}, webhook="https://hooks.example/")
    assert sorted(restored.photos) == ["2.webp", "3.webp", "a.webp"]
    assert restored.errors == []
    assert seen[-1].state == "done"
    restored.extract(tmp_path / "out")
    assert (tmp_path / "out/a.webp").read_bytes()[8:12] == b"WEBP"

    async def run() -> RestoredBatch:
        async with AsyncClient(jobs.url) as client:
            return await client.wait_batch(await client.submit_batch({"deep/x.png": png(8, 8), "bad.png": b"bad"}))

    restored = asyncio.run(run())
    assert list(restored.photos) == ["deep/x.png"]
    assert [error["filename"] for error in restored.errors] == ["bad.png"]


def test_the_command_line_sends_a_folder_as_one_job(jobs: Any, png: Image, tmp_path: Path, command: Any) -> None:
    for name in ("in/a.png", "in/deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(8, 9))
    out = tmp_path / "out.zip"
    finished = command("restore", tmp_path / "in", out, "--server", jobs.url, "--format", "jpeg")
    assert finished.returncode == 0, finished.stderr
    assert sorted(zipfile.ZipFile(out).namelist()) == ["a.jpg", "deep/b.jpg"]
    again = command("restore", tmp_path / "in", out, "--server", jobs.url)
    assert "--overwrite" in again.stderr
    (tmp_path / "in/bad.png").write_bytes(b"no image")
    partly = command("restore", tmp_path / "in", out, "--server", jobs.url, "--overwrite")
    assert partly.returncode == 1
    assert "2 of 3 images" in partly.stderr
    assert "bad.png: The upload is not an image" in partly.stderr
    assert "needs --server" in command("restore", tmp_path / "in", tmp_path / "other.zip").stderr


def test_a_terminal_is_told_what_was_done_to_each_photo_of_the_archive(jobs: Any, png: Image, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(png(8, 9))
    ours, theirs = pty.openpty()
    arguments = ["restore", str(tmp_path / "in"), str(tmp_path / "out.zip"), "--server", jobs.url]
    subprocess.run([sys.executable, "-m", "server.cli", *arguments], stderr=theirs, check=True)
    os.close(theirs)
    said = os.read(ours, 65_536)  # which the terminal holds
    os.close(ours)
    assert [line.split(b":")[0] for line in said.splitlines()] == [b"a.png", b"b.png", b"promptir"]
    assert said.count(b".png: almost nothing changed\r\n") == 2
