"""Tests of the Store."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import DiskFull, JobExpired, JobsFull, JobsUnavailable, JobUnfinished, UnknownJob
from server.formats.output import OutputFormat, PngEffort
from server.jobs.record import Answer, Order, State, options_json
from server.jobs.store import JOB_BYTES, Store
from server.restore.options import Mode, RestoreOptions

HOUR = 3600.0
BUDGET = 20 * JOB_BYTES

NewOrder = Callable[..., Order]


@pytest.fixture
def opened(tmp_path: Path, clock: Any) -> Iterator[Callable[..., Store]]:
    """Open the store of the test's folder, after closing the one that was open."""
    stores: list[Store] = []

    def reopen(max_bytes: int = BUDGET) -> Store:
        if stores:
            stores[-1].close()
        stores.append(Store(tmp_path, max_bytes, HOUR, clock))
        stores[-1].open()
        return stores[-1]

    yield reopen
    stores[-1].close()


def files(folder: Path, kind: str) -> set[str]:
    return {path.name for path in (folder / kind).iterdir()}


def test_what_was_ordered_comes_back_as_it_was(opened: Any) -> None:
    options = RestoreOptions(OutputFormat.WEBP, 70, PngEffort.SMALL, strength=0.25, tile=128, report=True)
    order = Order(options_json(options), "holiday ☀.png", 64, 100, 1_000_500.0)
    id_ = opened().submit(b"upload", order).id
    record = opened().find(id_)
    assert (record.state, record.order, record.starts, record.expires_at) == (State.QUEUED, order, 0, None)
    assert record.order.restore_options == options


def test_ids_have_128_bits_and_none_is_like_another(opened: Any, order: NewOrder) -> None:
    store = opened()
    ids = {store.submit(b"", order()).id for _ in range(5)}
    assert len(ids) == 5
    assert all(len(bytes.fromhex(id_)) == 16 for id_ in ids)


def test_jobs_begin_in_the_order_they_came(opened: Any, order: NewOrder) -> None:
    store = opened()
    ids = [store.submit(bytes([n]), order()).id for n in range(3)]
    begun = [store.begin_next() for _ in range(4)]
    assert [job and (job[0].id, job[1]) for job in begun] == [(id_, bytes([n])) for n, id_ in enumerate(ids)] + [None]


def test_a_job_that_is_put_back_is_the_next_again(opened: Any, order: NewOrder) -> None:
    store = opened()
    first = store.submit(b"", order()).id
    store.submit(b"", order())
    store.begin_next()
    store.put_back(first)
    record, _ = store.begin_next()
    assert (record.id, record.starts) == (first, 1)
    store.put_back(first, counted=True)
    assert store.begin_next()[0].starts == 2


def test_a_job_that_ran_when_the_server_ended_runs_again_and_that_it_began_counts(opened: Any, order: NewOrder) -> None:
    store = opened()
    id_ = store.submit(b"upload", order()).id
    store.begin_next()
    record, upload = opened().begin_next()
    assert (record.id, record.starts, upload) == (id_, 2, b"upload")


def test_a_done_job_keeps_its_result_and_drops_its_upload(
    opened: Any, order: NewOrder, answer: Answer, tmp_path: Path, clock: Any
) -> None:
    store = opened()
    id_ = store.submit(b"upload", order()).id
    store.begin_next()
    assert store.finish(id_, b"result", answer)
    record, size, file = opened().open_result(id_)
    with file:
        assert (size, file.read()) == (6, b"result")
    assert (record.state, record.answer, record.expires_at) == (State.DONE, answer, clock.now + HOUR)
    assert (files(tmp_path, "uploads"), files(tmp_path, "results")) == (set(), {id_})


def test_a_report_comes_back_as_it_was(opened: Any, order: NewOrder) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    told = Answer(OutputFormat.AVIF, 3, 4, Mode.TILED, 6, {"change": {"psnr_db": None}, "prompt_weights": [[0.5, 0.5]]})
    store.finish(id_, b"", told)
    assert opened().find(id_).answer == told


def test_a_job_that_was_cancelled_while_it_ran_is_not_done_after_all(
    opened: Any, order: NewOrder, answer: Answer, tmp_path: Path
) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    store.begin_next()
    assert store.give_up(id_) is State.RUNNING
    assert not store.finish(id_, b"result", answer)
    assert not store.fail(id_, {})
    assert store.find(id_).state is State.CANCELLED
    assert files(tmp_path, "uploads") == files(tmp_path, "results") == set()


def test_giving_up_a_job_that_has_ended_forgets_it(opened: Any, order: NewOrder, answer: Answer) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    store.finish(id_, b"result", answer)
    assert store.give_up(id_) is State.DONE
    with pytest.raises(UnknownJob):
        store.find(id_)
    assert store.used_bytes == 0


def test_an_unfinished_job_has_no_result(opened: Any, order: NewOrder) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    with pytest.raises(JobUnfinished) as error:
        store.open_result(id_)
    assert error.value.extensions == {"state": "queued"}


def test_a_result_goes_when_its_time_is_over_and_its_record_an_hour_later(
    opened: Any, order: NewOrder, answer: Answer, clock: Any, tmp_path: Path
) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    store.finish(id_, b"result", answer)
    clock.now += HOUR - 1
    store.open_result(id_)[2].close()
    clock.now += 1
    with pytest.raises(JobExpired):
        store.open_result(id_)
    assert files(tmp_path, "results") == set()
    assert store.used_bytes == 0
    other = store.submit(b"", order()).id
    store.fail(other, {})
    clock.now += HOUR
    with pytest.raises(UnknownJob):
        store.find(id_)


def test_a_job_that_waits_never_expires(opened: Any, order: NewOrder, clock: Any) -> None:
    store = opened()
    id_ = store.submit(b"", order()).id
    clock.now += 1000 * HOUR
    assert store.find(id_).state is State.QUEUED


def test_the_room_of_a_result_is_set_aside_from_the_beginning(opened: Any, order: NewOrder, answer: Answer) -> None:
    store = opened()
    id_ = store.submit(b"upload", order(result_bytes=1000)).id
    assert store.used_bytes == 6 + 1000 + JOB_BYTES
    store.finish(id_, b"result", answer)
    assert store.used_bytes == 6 + JOB_BYTES
    assert opened().used_bytes == 6 + JOB_BYTES


def test_a_full_budget_refuses_until_the_next_result_expires_and_evicts_nothing(
    opened: Any, order: NewOrder, answer: Answer, clock: Any
) -> None:
    store = opened()
    kept = [store.submit(b"", order(0)).id for _ in range(BUDGET // JOB_BYTES)]
    store.finish(kept[0], b"", answer)
    clock.now += 600
    with pytest.raises(JobsFull, match=str(BUDGET)) as error:
        store.submit(b"", order(0))
    assert error.value.retry_after_s == HOUR - 600
    store.open_result(kept[0])[2].close()
    clock.now += HOUR - 600
    store.submit(b"", order(0))


def test_a_job_that_no_empty_budget_could_hold_is_not_told_to_come_back(opened: Any, order: NewOrder) -> None:
    with pytest.raises(DiskFull, match=str(BUDGET)):
        opened().submit(b"", order(BUDGET))


def test_a_full_disk_is_said_before_anything_is_written(
    opened: Any, order: NewOrder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = opened()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull, match="no room"):
        store.submit(b"upload", order())
    assert files(tmp_path, "uploads") == set()


def test_a_result_that_the_disk_does_not_take_leaves_the_job_unfinished_and_no_piece_of_it(
    opened: Any, order: NewOrder, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = opened()
    id_ = store.submit(b"upload", order()).id
    store.begin_next()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(DiskFull):
            store.finish(id_, b"result", answer)
    assert store.find(id_).state is State.RUNNING
    assert files(tmp_path, "results") == set()
    assert store.finish(id_, b"result", answer)


def test_a_folder_belongs_to_one_server_at_a_time(opened: Any, tmp_path: Path) -> None:
    opened()
    with pytest.raises(JobsUnavailable, match="in use"):
        Store(tmp_path, BUDGET, HOUR).open()
    opened()


def test_a_folder_of_a_newer_version_is_left_alone(opened: Any, tmp_path: Path) -> None:
    opened().close()
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JobsUnavailable, match="newer"):
        Store(tmp_path, BUDGET, HOUR).open()


def test_an_upload_that_is_gone_is_told_apart_from_an_empty_queue(opened: Any, order: NewOrder, tmp_path: Path) -> None:
    store = opened()
    id_ = store.submit(b"upload", order()).id
    (tmp_path / "uploads" / id_).unlink()
    record, upload = store.begin_next()
    assert (record.id, upload) == (id_, None)
