"""Tests of whose jobs are whose, in stores old and new."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.errors import JobExpired, UnknownJob
from server.jobs.database import VERSION
from server.jobs.record import Order
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


def test_a_folder_of_the_version_before_is_taken_over(tmp_path: Path, clock: Any, order: NewOrder) -> None:
    first = Store(tmp_path, 20 * JOB_BYTES, HOUR, clock)
    first.open()
    id_ = first.submit(b"upload", order(filename="a.png", deadline_at=5.0)).id
    first.close()
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as database:  # as the version before wrote it
        database.execute("ALTER TABLE jobs DROP COLUMN owner")
        database.execute("PRAGMA user_version = 1")
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
