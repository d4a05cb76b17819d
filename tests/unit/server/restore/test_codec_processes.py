"""Tests of the processes for codecs, with real processes and real shared memory, and of the faults they may have."""

import asyncio
import gc
import io
import os
import resource
import signal
import time
from collections.abc import Iterator

import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin
import pytest
from prometheus_client import CollectorRegistry

from server import shared_memory
from server.errors import CodecLost, UndecodableImage
from server.formats.header import probe
from server.formats.output import ColourPolicy, OutputFormat
from server.imaging import tiling
from server.metrics import Metrics
from server.restore.codec_process import CodecProcess
from server.restore.codec_processes import CodecProcesses, SharedRun
from server.restore.options import RestoreOptions
from server.restore.photo import Photo
from server.restore.tiles import RestoredFile, SingleRun, WholeRun, open_photo
from server.scheduling.queue.tile import Completion
from server.settings import LimitSettings
from server.shared_memory import SegmentPool

LIMITS = LimitSettings()
NOISE = np.random.default_rng(0).integers(0, 256, (120, 200, 4), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 2**16, (60, 72, 4), dtype=np.uint16)
HANG_S = 3600.0


def segments_in_the_system() -> set[str]:
    """The segments of this process; other tests and servers beside it have theirs."""
    start = shared_memory.NAME.format(pid=os.getpid())
    return {file.name for file in shared_memory.FILES.iterdir() if file.name.startswith(start)}


@pytest.fixture(scope="module", autouse=True)
def no_segment_is_left() -> Iterator[None]:
    before = segments_in_the_system()
    yield
    gc.collect()
    assert segments_in_the_system() <= before


@pytest.fixture(scope="module")
def processes() -> Iterator[CodecProcesses]:
    """One process for all tests here: to start one takes a second."""
    processes = CodecProcesses(1, Metrics(CollectorRegistry()))
    processes.start()
    yield processes
    processes.stop()


@pytest.fixture
def before(processes: CodecProcesses) -> dict[str, float]:
    """The faults that were counted before the test."""
    return faults(processes)


def faults(processes: CodecProcesses) -> dict[str, float]:
    """The faults that were counted, by reason."""
    registry = processes._metrics.registry
    reasons = ("ended", "hung", "no-shared-memory")
    found = {
        reason: registry.get_sample_value("promptir_codec_process_faults_total", {"reason": reason}) or 0.0
        for reason in reasons
    }
    return {reason: count for reason, count in found.items() if count}


def since(before: dict[str, float], processes: CodecProcesses) -> dict[str, float]:
    """The faults that were counted since then."""
    found = {reason: count - before.get(reason, 0) for reason, count in faults(processes).items()}
    return {reason: count for reason, count in found.items() if count}


def opened(processes: CodecProcesses, data: bytes, options: RestoreOptions) -> Photo | SingleRun:
    header = probe(data, LIMITS)
    grid = tiling.plan(header.height, header.width, 8, None, options.tile, options.overlap)
    return processes.open_photo(data, header, grid, options)


def finished(run: Photo | SingleRun, output: OutputFormat) -> RestoredFile:
    """The file after a network that makes everything a little darker."""

    async def submit(pixels: np.ndarray) -> Completion:
        return Completion(pixels * np.float32(0.9), 0.0, 0.0, 1, np.full((2, 3), 1 / 3, np.float32))

    assert isinstance(run, SingleRun)
    asyncio.run(run.run(submit, lambda done, total: None))
    return run.write(output, ("noise",))


def restored(processes: CodecProcesses, data: bytes, options: RestoreOptions, output: OutputFormat) -> RestoredFile:
    return finished(opened(processes, data, options), output)


def in_a_thread(data: bytes, options: RestoreOptions, output: OutputFormat) -> RestoredFile:
    header = probe(data, LIMITS)
    return finished(open_photo(data, header, tiling.plan(header.height, header.width, 8), options), output)


def png(pixels: np.ndarray = NOISE) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def with_metadata() -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"  # it lies on its side
    file = io.BytesIO()
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    PIL.Image.fromarray(NOISE[:, :, :3]).save(file, "JPEG", exif=exif, icc_profile=profile, xmp=b"<x:xmpmeta/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (png(NOISE[:, :, :3]), RestoreOptions(report=True)),
        (png(), RestoreOptions(strength=0.4)),
        (png(), RestoreOptions(strength=0.0, report=True)),
        (png(NOISE[:, :, 0]), RestoreOptions()),
        (png(DEEP), RestoreOptions()),
        (png(DEEP[:, :, 0]), RestoreOptions()),
        (with_metadata(), RestoreOptions()),
        (with_metadata(), RestoreOptions(colours=ColourPolicy.SRGB)),
    ],
)
@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.JPEG, OutputFormat.TIFF])
def test_a_process_writes_the_same_bytes_as_a_thread(
    processes: CodecProcesses,
    before: dict[str, float],
    data: bytes,
    options: RestoreOptions,
    output: OutputFormat,
) -> None:
    assert isinstance(run := opened(processes, data, options), SharedRun)
    assert finished(run, output) == in_a_thread(data, options, output)
    assert not since(before, processes)


def test_a_file_that_is_larger_than_the_segment_comes_back_whole(processes: CodecProcesses) -> None:
    file = io.BytesIO()
    note = PIL.PngImagePlugin.PngInfo()
    note.add_itxt("XML:com.adobe.xmp", "x" * 3_000_000)
    PIL.Image.fromarray(NOISE[:8, :8, :3]).save(file, "PNG", pnginfo=note)
    data = file.getvalue()
    options = RestoreOptions()
    assert restored(processes, data, options, OutputFormat.TIFF) == in_a_thread(data, options, OutputFormat.TIFF)


def test_an_error_of_the_work_is_the_same_as_in_a_thread(processes: CodecProcesses, before: dict[str, float]) -> None:
    data = bytearray(png())
    data[2000] ^= 0xFF
    with pytest.raises(UndecodableImage) as expected:
        in_a_thread(bytes(data), RestoreOptions(), OutputFormat.PNG)
    with pytest.raises(UndecodableImage) as found:
        opened(processes, bytes(data), RestoreOptions())
    assert found.value.detail == expected.value.detail
    assert not since(before, processes)


def test_a_killed_process_costs_no_image(processes: CodecProcesses, before: dict[str, float]) -> None:
    options, output = RestoreOptions(), OutputFormat.PNG
    expected = in_a_thread(png(), options, output)
    run = opened(processes, png(), options)
    kill(processes.processes[0])
    assert finished(run, output) == expected
    kill(processes.processes[0])
    assert restored(processes, png(), options, output) == expected
    assert since(before, processes) == {"ended": 2.0}


def test_a_process_that_is_killed_at_work_is_replaced_and_the_work_repeated(
    processes: CodecProcesses, before: dict[str, float]
) -> None:
    killed: list[int] = []

    def work(process: CodecProcess) -> object:
        if not killed:
            killed.append(process.call(os.getpid))
            return process.call(os.kill, killed[0], signal.SIGKILL)
        return process.call(os.getpid)

    assert processes.run(work) not in killed
    assert since(before, processes) == {"ended": 1.0}


def test_an_image_that_kills_two_processes_is_given_up(processes: CodecProcesses, before: dict[str, float]) -> None:
    with pytest.raises(CodecLost, match="lost, 2 times"):
        processes.run(lambda process: process.call(os._exit, 1))
    assert since(before, processes) == {"ended": 2.0}
    assert restored(processes, png(), RestoreOptions(), OutputFormat.PNG)


def test_a_process_that_hangs_is_killed_at_its_limit() -> None:
    hanging = CodecProcesses(1, Metrics(CollectorRegistry()), limit_s=0.3)
    hanging.start()
    pids: list[int] = []

    def work(process: CodecProcess) -> object:
        pids.append(process.call(os.getpid))
        return process.call(time.sleep, HANG_S)

    began = time.monotonic()
    with pytest.raises(CodecLost):
        hanging.run(work)
    assert time.monotonic() - began < 60
    assert faults(hanging) == {"hung": 2.0}
    assert not any(alive(pid) for pid in pids)
    hanging.stop()


def test_without_shared_memory_an_image_is_worked_on_in_the_thread() -> None:
    options, output = RestoreOptions(), OutputFormat.PNG
    processes = CodecProcesses(1, Metrics(CollectorRegistry()), segments=SegmentPool(max_bytes=0))
    run = opened(processes, png(), options)
    assert isinstance(run, WholeRun)
    assert finished(run, output) == in_a_thread(png(), options, output)
    assert faults(processes) == {"no-shared-memory": 1.0}
    processes.stop()


def test_a_segment_that_the_system_refuses_leaves_nothing_behind() -> None:
    # A real /dev/shm is full only when the memory of the machine is: a limit on files gives the same error.
    pool, before, limits = SegmentPool(), segments_in_the_system(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        assert pool.lend(3 * 2**20) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert segments_in_the_system() == before
    assert pool.held_bytes == 0
    assert pool.lend(3 * 2**20) is not None
    pool.close()


def test_tiles_of_a_large_photo_stay_in_this_process(processes: CodecProcesses) -> None:
    assert isinstance(opened(processes, png(), RestoreOptions(tile=64, overlap=16)), Photo)


def test_after_the_stop_there_is_no_process_and_no_segment() -> None:
    processes = CodecProcesses(2, Metrics(CollectorRegistry()))
    processes.start()
    run = opened(processes, png(), RestoreOptions())
    pids = [process.pid for process in processes.processes]
    before = segments_in_the_system()
    processes.stop()
    assert not any(alive(pid) for pid in pids if pid is not None)
    assert len(segments_in_the_system()) == len(before) - 1
    # What is still on its way is finished in the thread, in the memory that it has.
    assert finished(run, OutputFormat.PNG) == in_a_thread(png(), RestoreOptions(), OutputFormat.PNG)


def test_a_segment_is_read_while_it_has_a_name_and_after() -> None:
    pool = SegmentPool()
    lease = pool.lend(1000)
    assert lease is not None
    lease.data[:1000] = np.arange(1000) % 251
    expected = lease.data[100:900].tobytes()
    assert lease.read(100, 800) == expected
    pool.close()
    assert lease.name not in segments_in_the_system()
    assert lease.read(100, 800) == expected


def test_a_segment_is_lent_again_when_its_last_view_is_gone() -> None:
    pool = SegmentPool()
    first = pool.lend(1000)
    assert first is not None
    name, view = first.name, first.data[8:16].view(np.float32).reshape(2, 1)
    del first
    second = pool.lend(1000)
    assert second is not None
    assert second.name != name
    del view
    third = pool.lend(1000)
    assert third is not None
    assert third.name == name
    pool.close()


def test_unused_segments_are_kept_up_to_a_bound_only() -> None:
    pool = SegmentPool(kept_bytes=3 * 2**20)
    leases = [pool.lend(2**20) for _ in range(8)]
    assert pool.held_bytes == 8 * 2**20
    leases.clear()
    assert pool.lend(2**20) is not None
    assert pool.held_bytes <= 4 * 2**20
    pool.close()


def kill(process: CodecProcess) -> None:
    pid = process.call(os.getpid)
    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
