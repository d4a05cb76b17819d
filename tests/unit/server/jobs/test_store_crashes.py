"""The Store against a model, with crashes between any two steps of it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.errors import DiskFull, JobExpired, JobsFull, UnknownJob
from server.formats.output import OutputFormat
from server.jobs.file_store import FileStore
from server.jobs.record import Answer, Order, State
from server.jobs.store import JOB_BYTES, Store
from server.restore.options import Mode

KEEP_S = 3600.0
BUDGET = 12 * JOB_BYTES
ANSWER = Answer(OutputFormat.PNG, 8, 8, Mode.WHOLE, 1)
UNFINISHED = (State.QUEUED, State.RUNNING)

# How many steps on files an operation gets through before the crash; most have fewer than the largest.
steps = st.one_of(st.none(), st.integers(0, 6))


class Crash(BaseException):
    """The process ends here."""


class Fuse:
    """Burns down by one at each step on files."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left == 0:
            raise Crash
        if self.left is not None:
            self.left -= 1


class CrashingFileStore(FileStore):
    """A file store whose process may end before, in the middle of and after each step."""

    def __init__(self, folder: Path, fuse: Fuse) -> None:
        super().__init__(folder)
        self._fuse = fuse

    def write(self, name: str, data: bytes) -> None:
        self._fuse.step()
        (self.folder / f"{name}.unfinished").write_bytes(data[: len(data) // 2])
        self._fuse.step()
        super().write(name, data)
        self._fuse.step()

    def remove(self, name: str) -> None:
        self._fuse.step()
        super().remove(name)
        self._fuse.step()


class StoreWithCrashes(RuleBasedStateMachine):
    """What was promised holds: an accepted job is there, a done one has its bytes, and nothing else takes up room."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.fuse = Fuse()
        self.now = 1_000_000.0
        self.store = self._opened()
        self.uploads: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.states: dict[str, State] = {}
        self.ends: dict[str, float] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def _opened(self) -> Store:
        store = Store(
            Path(self.folder.name),
            BUDGET,
            KEEP_S,
            lambda: self.now,
            lambda folder: CrashingFileStore(folder, self.fuse),
        )
        store.open()
        return store

    def _survives(self, steps_left: int | None, operation: Callable[[], Any]) -> Any:
        """The operation's result; Crash where the process ended in it, the store is open again then."""
        self.fuse.left = steps_left
        try:
            return operation()
        except Crash:
            return Crash
        finally:
            crashed = self.fuse.left == 0
            self.fuse.left = None
            if crashed:
                self.restart()

    def _jobs(self, *states: State) -> list[str]:
        return [id_ for id_, state in self.states.items() if state in states]

    def _learn(self, id_: str, possible: set[State | None]) -> None:
        """After a crash: which of the possible states it is, None for a job that is gone."""
        try:
            state: State | None = self.store.find(id_).state
        except UnknownJob:
            state = None
        assert state in possible
        if state is None:
            del self.states[id_]
        else:
            self.states[id_] = state
            if state not in UNFINISHED:
                self.ends.setdefault(id_, self.now)

    @rule(upload=st.binary(max_size=64), result_bytes=st.integers(0, 2 * JOB_BYTES), left=steps)
    def submit(self, upload: bytes, result_bytes: int, left: int | None) -> None:
        before = set(self.states)
        try:
            record = self._survives(left, lambda: self.store.submit(upload, Order("{}", None, 1, result_bytes)))
        except JobsFull:
            assert self.store.used_bytes + len(upload) + result_bytes + JOB_BYTES > BUDGET
            return
        stored = self._rows().ids(*UNFINISHED) - before
        assert len(stored) <= 1
        if record is not Crash:
            assert stored == {record.id}
        for id_ in stored:
            self.states[id_], self.uploads[id_] = State.QUEUED, upload

    @rule(left=steps)
    def begin_next(self, left: int | None) -> None:
        waiting = self._jobs(State.QUEUED)
        begun = self._survives(left, lambda: self.store.begin_next())
        if begun is Crash:
            return
        assert (begun is None) is (not waiting)
        if begun is not None:
            record, upload = begun
            assert record.id in waiting
            assert upload == self.uploads[record.id]
            if self.states[record.id] is State.QUEUED and self.store.find(record.id).state is State.RUNNING:
                self.states[record.id] = State.RUNNING

    @precondition(lambda self: self._jobs(State.RUNNING))
    @rule(data=st.data(), result=st.binary(max_size=64), left=steps)
    def finish(self, data: st.DataObject, result: bytes, left: int | None) -> None:
        id_ = data.draw(st.sampled_from(self._jobs(State.RUNNING)))
        self.results[id_] = result
        try:
            ended = self._survives(left, lambda: self.store.finish(id_, result, ANSWER))
        except DiskFull:
            return
        assert ended in (True, Crash)
        self._learn(id_, {State.DONE} if ended is True else {State.DONE, State.QUEUED})

    @precondition(lambda self: self._jobs(State.RUNNING))
    @rule(data=st.data(), left=steps, way=st.sampled_from(["fail", "put back"]))
    def stop(self, data: st.DataObject, left: int | None, way: str) -> None:
        id_ = data.draw(st.sampled_from(self._jobs(State.RUNNING)))
        failing = way == "fail"
        call = (lambda: self.store.fail(id_, {"title": "x"})) if failing else (lambda: self.store.put_back(id_))
        crashed = self._survives(left, call) is Crash
        end = State.FAILED if failing else State.QUEUED
        self._learn(id_, {end, State.QUEUED} if crashed else {end})

    @precondition(lambda self: self._jobs(*set(State) - {State.EXPIRED}))
    @rule(data=st.data(), left=steps)
    def give_up(self, data: st.DataObject, left: int | None) -> None:
        id_ = data.draw(st.sampled_from(self._jobs(*set(State) - {State.EXPIRED})))
        end = State.CANCELLED if self.states[id_] in UNFINISHED else None
        before = {State.QUEUED} if self.states[id_] in UNFINISHED else {self.states[id_]}
        crashed = self._survives(left, lambda: self.store.give_up(id_)) is Crash
        self._learn(id_, {end, *before} if crashed else {end})

    @rule(seconds=st.sampled_from([60.0, KEEP_S / 2, KEEP_S]), left=steps)
    def pass_time(self, seconds: float, left: int | None) -> None:
        self.now += seconds
        self._survives(left, lambda: self.store.expire())
        for id_, ended in list(self.ends.items()):
            if id_ in self.states and ended + KEEP_S <= self.now:
                self.states[id_] = State.EXPIRED

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self._opened()
        for id_ in self._jobs(State.RUNNING):
            self.states[id_] = State.QUEUED
        self._no_file_without_a_job()

    def _rows(self) -> Any:
        return self.store._rows

    def _no_file_without_a_job(self) -> None:
        folder = Path(self.folder.name)
        assert {path.name for path in (folder / "uploads").iterdir()} == self._rows().ids(*UNFINISHED)
        assert {path.name for path in (folder / "results").iterdir()} == self._rows().ids(State.DONE)

    @invariant()
    def what_was_promised_holds(self) -> None:
        if not hasattr(self, "states"):
            return
        for id_, state in self.states.items():
            if state is State.EXPIRED:
                try:
                    self.store.find(id_)
                except (JobExpired, UnknownJob):
                    continue
                raise AssertionError("an expired job was given")
            assert self.store.find(id_).state is state
            if state is State.DONE:
                with self.store.open_result(id_)[2] as file:
                    assert file.read() == self.results[id_]
        assert self.store.used_bytes <= BUDGET


StoreWithCrashes.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestStoreWithCrashes = StoreWithCrashes.TestCase
