"""Tests of a backend in the device process, used by several others; here all of them are threads of one process."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends.base import Backend, BackendInfo, ModelInput, ModelSpec, Result
from server.backends.settings import RuntimeSettings
from server.backends.shared.backend import SharedBackend, SharedBackends
from server.backends.shared.host import DeviceHost
from server.backends.shared.messages import Address, Start
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory, UnsupportedSize
from server.shared_memory import SegmentPool

WAIT_S = 30.0
MODEL = ModelSpec("doubling", "fp32", 8)
START = Start(RuntimeSettings(artifact=Path("model")), 8, "cpu")


class Doubling:
    """Doubles its input; raises `error` instead while that is set, and waits for `released` before each run."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.released = threading.Event()
        self.released.set()
        self.inside = threading.Event()
        self.batches: list[ModelInput] = []
        self.starts = self.stops = 0

    def start(self) -> BackendInfo:
        if self.error is not None:
            raise self.error
        self.starts += 1
        return BackendInfo(MODEL, "doubling", "cpu", 8)

    def run(self, batch: ModelInput) -> Result:
        self.inside.set()
        assert self.released.wait(WAIT_S)
        self.batches.append(replace(batch, pixels=batch.pixels.copy()))  # the array is of shared memory
        if self.error is not None:
            raise self.error
        return Result(batch.pixels * 2, np.full((len(batch.pixels), 1, 1), 7, np.float32))

    def stop(self) -> None:
        self.stops += 1


Open = Callable[..., SharedBackend]


class Device:
    """A host whose backends a test makes, and processes that use them."""

    def __init__(self, ends: ExitStack) -> None:
        self.made: list[Any] = []
        self.make: Callable[[], Backend] = Doubling
        self._ends = ends
        self.host = DeviceHost(self._new)
        self.address = self.host.open()
        ends.callback(self.host.close)

    def _new(self, settings: RuntimeSettings, max_batch: int, device: str) -> Backend:
        backend = self.make()
        self.made.append(backend)
        return backend

    def process(self, max_bytes: int = 2**24) -> SharedBackends:
        segments = SegmentPool(max_bytes)
        self._ends.callback(segments.close)
        return SharedBackends(self.address, segments)

    def user(
        self, max_bytes: int = 2**24, artifact: str = "model", process: SharedBackends | None = None
    ) -> SharedBackend:
        made = (process or self.process(max_bytes)).of(RuntimeSettings(artifact=Path(artifact)), 8)("cpu")
        self._ends.callback(made.stop)
        return made


@pytest.fixture
def device() -> Iterator[Device]:
    with ExitStack() as ends:
        yield Device(ends)


def grey(level: float, count: int = 1, side: int = 8) -> ModelInput:
    return ModelInput(np.full((count, 3, side, side), level, np.float32))


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.parametrize("max_bytes", [2**24, 0], ids=["in shared memory", "without shared memory"])
def test_a_batch_comes_back_as_the_backend_made_it(
    max_bytes: int, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    user = device.user(max_bytes)
    assert user.start() == BackendInfo(MODEL, "doubling", "cpu", 8)
    sizes = np.array([[8, 8], [4, 6]])
    batch = ModelInput(np.random.default_rng(0).random((2, 3, 8, 8), np.float32), sizes, "fp32")
    result = user.run(batch)
    assert np.array_equal(result.pixels, batch.pixels * 2)
    assert result.aux is not None
    assert (result.aux == 7).all()
    assert ("shared memory is full" in caplog.text) == (max_bytes == 0)
    (received,) = device.made[0].batches
    assert np.array_equal(received.each_size, sizes)
    assert received.precision == "fp32"


def test_a_result_stays_what_it_was_while_later_batches_run(device: Device) -> None:
    user = device.user()
    user.start()
    results = [user.run(grey(level)) for level in (0.1, 0.2, 0.3)]
    assert [float(result.pixels.max()) for result in results] == pytest.approx([0.2, 0.4, 0.6])


def test_processes_share_one_backend_which_stops_after_the_last(device: Device) -> None:
    users = [device.user(), device.user()]
    for user in users:
        user.start()
    assert [float(user.run(grey(level)).pixels.max()) for user, level in zip(users, (0.1, 0.2), strict=True)]
    (backend,) = device.made
    assert (backend.starts, len(backend.batches)) == (1, 2)
    users[0].stop()
    users[1].run(grey(0.3))
    assert backend.stops == 0
    users[1].stop()
    until(lambda: backend.stops == 1)
    users[1].start()
    assert len(device.made) == 2


def test_backends_of_one_device_never_run_at_the_same_time(device: Device) -> None:
    first, second = device.user(artifact="one"), device.user(artifact="two")
    first.start()
    second.start()
    one, two = device.made
    one.released.clear()
    runs = [first.begin(grey(0.1))]
    assert one.inside.wait(WAIT_S)
    runs.append(second.begin(grey(0.2)))
    assert not two.inside.wait(0.05)
    one.released.set()
    assert [float(run.result().pixels.max()) for run in runs] == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize(
    "error",
    [DeviceOutOfMemory("too large"), UnsupportedSize("not this size", allowed_sizes=[[8, 8]]), ValueError("odd")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_run_reaches_its_process_and_the_backend_goes_on(error: Exception, device: Device) -> None:
    user = device.user()
    user.start()
    device.made[0].error = error
    with pytest.raises(type(error)) as raised:
        user.run(grey(0.1))
    assert str(raised.value) == str(error)
    assert getattr(raised.value, "extensions", {}) == getattr(error, "extensions", {})
    device.made[0].error = None
    assert float(user.run(grey(0.1)).pixels.max()) == pytest.approx(0.2)


def test_an_error_that_cannot_be_sent_is_described(device: Device) -> None:
    class Local(Exception):  # noqa: N818 - a local class cannot be pickled
        pass

    user = device.user()
    user.start()
    device.made[0].error = Local("inside")
    with pytest.raises(RuntimeError, match=r"Local\('inside'\)"):
        user.run(grey(0.1))


@pytest.mark.parametrize("error", [BackendLost("gone"), SystemExit()], ids=["lost", "thread ended"])
def test_a_lost_backend_ends_all_its_runs_and_is_replaced_at_the_next_start(
    error: BaseException, device: Device
) -> None:
    users = [device.user(), device.user()]
    for user in users:
        user.start()
    lost = device.made[0]
    lost.released.clear()
    runs = [user.begin(grey(0.1)) for user in users]
    assert lost.inside.wait(WAIT_S)
    lost.error = error
    lost.released.set()
    for run in runs:
        with pytest.raises(BackendLost):
            run.result()
    with pytest.raises(BackendLost):
        users[0].run(grey(0.1))
    for user in users:
        user.stop()
        user.start()
        assert float(user.run(grey(0.1)).pixels.max()) == pytest.approx(0.2)
    assert len(device.made) == 2
    assert lost.stops == 1


def test_a_device_that_is_lost_for_good_stays_so(device: Device) -> None:
    user = device.user()
    user.start()
    device.made[0].error = BackendLost.until_restart("its context is lost")
    with pytest.raises(BackendLost) as raised:
        user.run(grey(0.1))
    assert raised.value.for_good


def test_a_backend_whose_run_is_given_up_is_replaced_for_all(device: Device) -> None:
    processes = [device.process(), device.process()]
    users = [device.user(process=process) for process in processes]
    for user in users:
        user.start()
    hanging = device.made[0]
    hanging.released.clear()
    runs = [user.begin(grey(0.1)) for user in users]
    assert hanging.inside.wait(WAIT_S)
    # What the supervisors of both do when they have abandoned a worker: its backend is not stopped.
    anew = [device.user(process=process) for process in processes]
    for user in anew:
        user.start()
        assert float(user.run(grey(0.1)).pixels.max()) == pytest.approx(0.2)
    for run in runs:
        with pytest.raises(BackendLost, match="too long"):
            run.result()
    hanging.released.set()
    until(lambda: hanging.stops == 1)
    assert len(device.made) == 2


def test_a_process_that_joins_during_a_run_does_not_end_it(device: Device) -> None:
    first = device.user()
    first.start()
    backend = device.made[0]
    backend.released.clear()
    run = first.begin(grey(0.1))
    assert backend.inside.wait(WAIT_S)
    device.user().start()
    backend.released.set()
    assert float(run.result().pixels.max()) == pytest.approx(0.2)
    assert len(device.made) == 1


def test_a_backend_that_cannot_start_says_why_and_is_tried_again(device: Device) -> None:
    user = device.user()
    failing = Doubling()
    failing.error = BackendUnavailable("install the runtime")
    device.make = lambda: failing
    with pytest.raises(BackendUnavailable, match="install the runtime"):
        user.start()
    failing.error = RuntimeError("broken")
    with pytest.raises(BackendUnavailable, match="RuntimeError: broken"):
        user.start()
    failing.error = None
    assert user.start().backend == "doubling"


def test_a_process_that_ends_during_its_run_disturbs_no_other(device: Device) -> None:
    users = [device.user(), device.user()]
    for user in users:
        user.start()
    backend = device.made[0]
    backend.released.clear()
    users[0].begin(grey(0.1))
    run = users[1].begin(grey(0.2))
    assert backend.inside.wait(WAIT_S)
    users[0].stop()
    backend.released.set()
    assert float(run.result().pixels.max()) == pytest.approx(0.4)
    assert len(device.made) == 1


def test_a_run_that_was_given_up_writes_to_no_memory_of_later_images(device: Device) -> None:
    segments = SegmentPool(2**24)
    user, other = SharedBackend(device.address, segments, START), device.user()
    user.start()
    other.start()
    backend = device.made[0]
    backend.released.clear()
    user.begin(grey(0.1))
    assert backend.inside.wait(WAIT_S)
    user.stop()  # what a worker does that was abandoned
    later = segments.lend(grey(0.1).pixels.nbytes)
    assert later is not None
    later.data[:] = 7
    backend.released.set()
    other.run(grey(0.2))
    assert (later.data == 7).all()
    segments.close()


def test_without_the_device_process_the_backend_is_lost_for_good(device: Device) -> None:
    user = device.user()
    nobody = SharedBackend(
        Address(f"{device.address.path}-gone", b"key"), SegmentPool(), Start(RuntimeSettings(), 8, "cpu")
    )
    with pytest.raises(BackendLost) as raised:
        nobody.start()
    assert raised.value.for_good
    with pytest.raises(BackendError, match="not started"):
        user.run(grey(0.1))


def test_a_stranger_without_the_key_is_turned_away_and_others_are_served(device: Device) -> None:
    with pytest.raises(AuthenticationError):
        Client(device.address.path, "AF_UNIX", authkey=b"guess")
    user = device.user()
    user.start()
    assert float(user.run(grey(0.1)).pixels.max()) == pytest.approx(0.2)


def test_a_process_that_hangs_while_it_connects_keeps_no_other_waiting(device: Device) -> None:
    with ThreadPoolExecutor(1) as thread, socket.socket(socket.AF_UNIX) as hanging:
        hanging.connect(device.address.path)
        assert thread.submit(device.user().start).result(WAIT_S).backend == "doubling"


def test_the_socket_is_gone_once_the_host_is_closed(device: Device) -> None:
    folder = Path(device.address.path).parent
    assert folder.stat().st_mode & 0o077 == 0  # for nobody else
    device.host.close()
    assert not folder.exists()


def test_a_backend_that_begins_ahead_has_the_next_batch_before_the_current_ends(device: Device) -> None:
    device.make = lambda: SimulatedBackend(100.0, 0.0, 8)
    users = [device.user(), device.user()]
    assert all(user.start().can_begin_ahead for user in users)
    began = time.monotonic()
    runs = [user.begin(grey(level)) for level in (0.1, 0.2) for user in users]
    runs[0].wait(1e-3)
    assert time.monotonic() - began < 0.1  # as long as it was told to, not to the end of the run
    levels = [float(run.result().pixels.max()) for run in reversed(runs)]
    assert levels == pytest.approx([0.2, 0.2, 0.1, 0.1])
    assert time.monotonic() - began >= 0.4  # one after the other
