"""Tests of a store whose files or folder are changed by others, and of its return to work."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import DiskFull, JobDamaged, JobsUnavailable, UnknownJob
from server.jobs.record import Answer, Order, State
from server.jobs.store import JOB_BYTES, Store

NewOrder = Callable[..., Order]
RESULT = b"the result"


@pytest.fixture
def store(tmp_path: Path, clock: Any) -> Iterator[Store]:
    (tmp_path / "jobs").mkdir()
    store = Store(tmp_path / "jobs", 20 * JOB_BYTES, 3600.0, clock)
    store.open()
    yield store
    store.close()


@pytest.fixture
def done(store: Store, order: NewOrder, answer: Answer) -> str:
    """A job that is done."""
    id_ = store.submit(b"upload", order()).id
    store.begin_next()
    store.finish(id_, RESULT, answer)
    return id_


def replace(path: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    if kind in ("emptied", "cut", "grown", "changed"):
        content = path.read_bytes()
        others = {"emptied": b"", "cut": content[:-1], "grown": content + b"!", "changed": content[:-1] + b"!"}
        path.write_bytes(others[kind])
        return
    content = path.read_bytes()
    path.unlink()
    if kind == "link":  # even to a file of the right size
        (path.parent.parent / "elsewhere").write_bytes(content)
        path.symlink_to(path.parent.parent / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        os.chdir(path.parent)  # the address of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)


KINDS = ["emptied", "cut", "grown", "gone", "link", "pipe", "folder", "device", "socket"]


@pytest.mark.parametrize("kind", [*KINDS, "changed"])
def test_a_result_that_is_not_what_was_stored_is_never_given(kind: str, store: Store, done: str) -> None:
    replace(store._disk.results.folder / done, kind)
    with pytest.raises(JobDamaged, match=f"stored result of the job {done} has changed on the disk"):
        store.open_result(done)
    assert store.trouble is None
    assert store.give_up(done) is State.DONE
    assert store.trouble is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_that_is_not_what_was_stored_is_not_restored(kind: str, store: Store, order: NewOrder) -> None:
    id_ = store.submit(b"upload", order()).id
    replace(store._disk.uploads.folder / id_, kind)
    begun = store.begin_next()
    assert begun is not None
    assert (begun[0].id, begun[1]) == (id_, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [("options", "{"), ("options", '{"quality": "many"}'), ("state", "asleep"), ("pixels", "a few"), ("starts", "x"),
     ("answer", "[" * 20_000), ("answer", "{}"), ("problem", "no JSON"), ("created_at", "today")],
)  # fmt: skip
def test_a_record_that_was_changed_is_said_so_and_can_be_removed(
    column: str, value: str, store: Store, done: str
) -> None:
    store._disk.rows._connection.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (value, done))  # noqa: S608
    for call in (store.find, store.open_result):
        with pytest.raises(JobDamaged, match=f"record of the job {done} was changed"):
            call(done)
    store.give_up(done)
    with pytest.raises(UnknownJob):
        store.find(done)


def test_a_waiting_job_whose_record_was_changed_stops_none_behind_it(store: Store, order: NewOrder) -> None:
    damaged, next_ = (store.submit(b"upload", order()).id for _ in range(2))
    store._disk.rows._connection.execute("UPDATE jobs SET options = 'x' WHERE id = ?", (damaged,))
    begun = store.begin_next()
    assert begun is not None
    assert begun[0].id == next_
    assert store.counts[State.FAILED] == 1


def test_without_the_folder_nothing_is_lost_and_with_it_work_goes_on(
    store: Store, done: str, order: NewOrder, tmp_path: Path
) -> None:
    waiting = store.submit(b"upload", order()).id
    (tmp_path / "jobs").rename(tmp_path / "away")
    for call in (store.begin_next, lambda: store.submit(b"", order()), lambda: store.open_result(done), store.check):
        with pytest.raises(JobsUnavailable, match="folder or a part of it is missing"):
            call()
    assert isinstance(store.trouble, JobsUnavailable)
    (tmp_path / "away").rename(tmp_path / "jobs")
    store.check()
    assert store.trouble is None
    store.open_result(done)[2].close()
    begun = store.begin_next()
    assert begun is not None
    assert (begun[0].id, begun[1]) == (waiting, b"upload")


def test_an_empty_folder_in_its_place_is_taken_anew(store: Store, done: str, order: NewOrder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "jobs")
    with pytest.raises(JobsUnavailable):
        store.check()
    assert not (tmp_path / "jobs").exists()  # it may be where a disk is missing
    (tmp_path / "jobs").mkdir()
    store.check()
    assert store.used_bytes == 0
    with pytest.raises(UnknownJob):
        store.find(done)
    store.submit(b"upload", order())


def test_a_database_that_was_overwritten_is_used_again_once_it_is_restored(
    store: Store, done: str, order: NewOrder, tmp_path: Path
) -> None:
    store.close()
    shutil.copytree(tmp_path / "jobs", tmp_path / "backup")
    store.open()
    running = store.submit(b"upload", order()).id
    store.begin_next()
    for path in (tmp_path / "jobs").glob("jobs.sqlite3*"):
        path.write_bytes(os.urandom(max(4096, path.stat().st_size)))
    with pytest.raises(JobsUnavailable, match="has a database that was overwritten"):
        store.submit(b"", order())
    for _ in range(2):
        with pytest.raises(JobsUnavailable):
            store.check({running})
    for path in (tmp_path / "jobs").glob("jobs.sqlite3*"):
        path.unlink()
    with pytest.raises(JobsUnavailable, match="missing"):  # no new one is made beside files that belong to the old one
        store.check({running})
    shutil.copy(tmp_path / "backup" / "jobs.sqlite3", tmp_path / "jobs")
    store.check({running})
    store.open_result(done)[2].close()
    store.submit(b"", order())


def test_what_runs_is_not_begun_again_when_the_folder_is_opened_anew(
    store: Store, order: NewOrder, answer: Answer, tmp_path: Path
) -> None:
    running, lost = (store.submit(b"upload", order()).id for _ in range(2))
    store.begin_next()
    store.begin_next()
    database = tmp_path / "jobs" / "jobs.sqlite3"
    store._disk.rows._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(database, tmp_path / "copy")
    (tmp_path / "copy").rename(database)  # another file with the same rows
    store.check({running})
    assert store.find(running).state is State.RUNNING
    assert store.find(lost).state is State.QUEUED
    assert store.finish(running, RESULT, answer)


def test_a_full_disk_is_trouble_until_there_is_room(
    store: Store, order: NewOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit(b"upload", order())
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(DiskFull) as full:
            store.begin_next()
        assert not full.value.is_of_budget
        assert store.trouble is full.value
        with pytest.raises(DiskFull):
            store.check()
    store.check()
    assert store.trouble is None
    assert store.begin_next() is not None


@pytest.mark.parametrize("name", ["results", "uploads"])
def test_a_store_does_not_open_on_a_link_in_the_place_of_a_folder(name: str, tmp_path: Path, clock: Any) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "jobs" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobsUnavailable, match=f"something else in the place of its folder {name}"):
        Store(tmp_path / "jobs", 20 * JOB_BYTES, 3600.0, clock).open()


def test_a_result_is_not_written_where_a_link_leads(
    store: Store, order: NewOrder, answer: Answer, tmp_path: Path
) -> None:
    id_ = store.submit(b"upload", order()).id
    store.begin_next()
    store._disk.results.folder.rename(tmp_path / "elsewhere")
    store._disk.results.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobsUnavailable, match="no link is followed"):
        store.finish(id_, RESULT, answer)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_turned_read_only_is_said_the_same_each_time_and_stays_open(
    store: Store, done: str, order: NewOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write whatever the permissions are, and mounts need more than a test has."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for _ in range(3):
        with pytest.raises(JobsUnavailable, match="cannot be written: it is read-only"):
            store.check()
        with pytest.raises(JobsUnavailable, match="cannot be written: it is read-only"):
            store.submit(b"upload", order())
    assert store.find(done).state is State.DONE
    monkeypatch.undo()
    store.check()
    assert store.trouble is None
    assert store.submit(b"upload", order()).state is State.QUEUED
