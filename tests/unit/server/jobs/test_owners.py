"""Tests of whose jobs are whose, in stores old and new."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.errors import DiskFull, JobExpired, JobsFull, UnknownJob
from server.jobs.budget import Budget
from server.jobs.database import VERSION
from server.jobs.record import Answer, Order
from server.jobs.store import JOB_BYTES, Store

HOUR = 3600.0

NewOrder = Callable[..., Order]


@pytest.fixture
def store(tmp_path: Path, clock: Any) -> Iterator[Store]:
    store = Store(tmp_path, 20 * JOB_BYTES, HOUR, clock)
    store.open()
    yield store
    store.close()


def test_a_job_is_there_for_its_owner_alone(store: Store, order: NewOrder) -> None:
    id_ = store.submit(b"upload", replace(order(), owner="ada")).id
    assert store.find(id_).order.owner == "ada"  # the server itself
    assert store.find(id_, "ada").id == id_
    with pytest.raises(UnknownJob):
        store.find(id_, "bob")


def test_a_job_without_an_owner_belongs_to_whoever_has_its_id(store: Store, order: NewOrder) -> None:
    id_ = store.submit(b"upload", order()).id
    assert store.find(id_, "bob").order.owner is None


def test_that_a_job_was_there_is_told_to_its_owner_alone(store: Store, order: NewOrder, clock: Any) -> None:
    id_ = store.submit(b"upload", replace(order(), owner="ada")).id
    store.give_up(id_)
    clock.now += HOUR + 1
    with pytest.raises(JobExpired):
        store.find(id_, "ada")
    with pytest.raises(UnknownJob):
        store.find(id_, "bob")


@pytest.mark.parametrize(("version", "lacking"), [(1, ("owner", "batch")), (2, ("batch",))])
def test_a_folder_of_an_older_version_is_taken_over(
    version: int, lacking: tuple[str, ...], tmp_path: Path, clock: Any, order: NewOrder
) -> None:
    first = Store(tmp_path, 20 * JOB_BYTES, HOUR, clock)
    first.open()
    id_ = first.submit(b"upload", order(filename="a.png", deadline_at=5.0)).id
    first.close()
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as database:  # as that version wrote it
        for column in lacking:
            database.execute(f"DROP INDEX jobs_by_{column}")
            database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        database.execute("DROP TABLE batches")
        database.execute("DROP TABLE webhooks")
        database.execute(f"PRAGMA user_version = {version}")
    for _ in range(2):
        again = Store(tmp_path, 20 * JOB_BYTES, HOUR, clock)
        again.open()
        record = again.find(id_, "ada")
        assert record.order == order(filename="a.png", deadline_at=5.0)
        mine = again.submit(b"upload", replace(order(), owner="bob")).id
        assert again.find(mine, "bob").order.owner == "bob"
        again.close()
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.fixture
def shared(tmp_path: Path, clock: Any) -> Iterator[Store]:
    """A store of two clients."""
    store = Store(tmp_path, Budget(20 * JOB_BYTES, lambda: ["ada", "bob"]), HOUR, clock)
    store.open()
    yield store
    store.close()


def test_one_client_cannot_fill_the_budget_and_is_told_when_room_of_its_own_comes(
    shared: Store, order: NewOrder, answer: Answer, clock: Any
) -> None:
    of_bob, of_ada = (replace(order(0), owner=name) for name in ("bob", "ada"))
    early = shared.submit(b"", of_ada).id
    shared.finish(early, b"", answer)
    clock.now += 600
    jobs = [shared.submit(b"", of_bob).id for _ in range(10)]
    with pytest.raises(JobsFull, match="others have room") as full:
        shared.submit(b"", of_bob)
    assert full.value.retry_after_s < 60  # none of its own has ended
    shared.finish(jobs[0], b"", answer)
    clock.now += 60
    with pytest.raises(JobsFull) as full:
        shared.submit(b"", of_bob)
    assert full.value.retry_after_s == HOUR - 60
    for _ in range(6):
        shared.submit(b"", of_ada)
    for id_ in (jobs[0], jobs[1], jobs[1]):  # its part has become smaller by what the other took
        shared.give_up(id_)
    shared.submit(b"", of_bob)


def test_a_job_that_no_client_may_have_is_not_told_to_come_back(shared: Store, order: NewOrder) -> None:
    with pytest.raises(DiskFull, match="for one key"):
        shared.submit(b"", replace(order(11 * JOB_BYTES), owner="ada"))
    shared.submit(b"", order(11 * JOB_BYTES))


def test_owners_take_turns_so_that_nobody_waits_behind_all_of_another(store: Store, order: NewOrder) -> None:
    for owner in ("bob", "bob", "bob", "bob", "ada", "ada", None):
        store.submit(b"", replace(order(), owner=owner))
    begun = [store.begin_next() for _ in range(7)]
    owners = [None if job is None else job[0].order.owner for job in begun]
    assert owners == ["bob", "ada", None, "bob", "ada", "bob", "bob"]


def test_a_wait_is_predicted_from_turns(store: Store, order: NewOrder) -> None:
    for pixels in (100, 100, 100):
        store.submit(b"", replace(order(pixels=pixels), owner="bob"))
    first = store.submit(b"", replace(order(pixels=50), owner="ada"))
    second = store.submit(b"", replace(order(pixels=50), owner="ada"))
    assert store.pixels_ahead(first) == 50
    assert store.pixels_ahead(second) == 50 + 100
    assert store.pixels_ahead(store.submit(b"", replace(order(pixels=10), owner="bob"))) == 300 + 100
