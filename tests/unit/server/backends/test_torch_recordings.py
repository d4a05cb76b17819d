"""Tests of the Recordings, with graphs that record nothing."""

from typing import Any

import pytest

from server.backends.torch_recordings import MOST_RECORDINGS, Recordings

torch = pytest.importorskip("torch", reason="runs its networks with torch (extra `export`)")


class GraphsOfNothing:
    """As much of torch as a recording asks for, on a device with `room` free bytes.

    A run needs `peak` bytes, and a recording as many in its pool, unless the pool has them from an earlier one. Eager
    runs have left `cached` bytes, which entering a capture releases, as in torch.
    """

    class CUDAGraph:
        replays = 0

        def replay(self) -> None:
            self.replays += 1

    def __init__(self, peak: int = 100, *, room: int = 10**6, cached: int = 1000) -> None:
        self.cuda = self
        self.peak = peak
        self.room = room
        self.cached = cached
        self.failing = False
        self.recorded: list[Any] = []
        self.attempts = 0
        self.pools: dict[int, int] = {}
        self.pools_used: list[int] = []

    def reset_peak_memory_stats(self) -> None:
        pass

    def memory_allocated(self) -> int:
        return 0

    def max_memory_allocated(self) -> int:
        return self.peak

    def synchronize(self) -> None:
        pass

    def empty_cache(self) -> None:
        self.cached = 0

    def mem_get_info(self) -> tuple[int, int]:
        return self.room, 10**9

    def memory_reserved(self) -> int:
        return self.cached + sum(self.pools.values())

    def graph_pool_handle(self) -> int:
        self.pools = {len(self.pools): 0}  # only called for the first, or when no graph of the others is left
        return next(iter(self.pools))

    def Stream(self) -> str:  # noqa: N802 - torch's own name
        return "a stream of this device"

    def graph(self, graph: Any, pool: int, stream: str, capture_error_mode: str) -> Any:
        assert (stream, capture_error_mode) == ("a stream of this device", "thread_local")
        self.attempts += 1
        if self.failing:
            raise torch.OutOfMemoryError("no room for a graph")
        self.cached = 0
        self.pools[pool] = max(self.pools[pool], self.peak) + self.peak // 10  # and its outputs, which stay
        self.pools_used.append(pool)
        self.recorded.append(graph)
        return torch.inference_mode()


def test_a_shape_is_recorded_on_its_third_run_and_replayed_from_then_on() -> None:
    device = GraphsOfNothing()
    runs: list[int] = []
    recordings = Recordings(device, lambda image: runs.append(1) or (image,), max_bytes=150)  # type: ignore[arg-type,func-returns-value]
    for value in range(5):
        (output,) = recordings.run(torch.full((1, 3, 8, 8), float(value)))
        assert (output == value).all()
    assert len(runs) == 4  # two, one more with its peak measured, and the recording
    assert [graph.replays for graph in device.recorded] == [2]


def test_a_padded_shape_has_one_recording_for_all_sizes_of_its_images_and_another_for_plain_runs() -> None:
    device = GraphsOfNothing()
    recordings = Recordings(device, lambda image, *sides: (image, *sides), max_bytes=10**6)  # type: ignore[arg-type]
    padded_shape = torch.zeros(2, 3, 16, 16)
    for number in range(4):
        heights, widths = torch.tensor([8, 16]), torch.tensor([16, number])
        _, answered_heights, answered_widths = recordings.run(padded_shape, heights, widths)
        assert (answered_heights.tolist(), answered_widths.tolist()) == ([8, 16], [16, number])
    assert [graph.replays for graph in device.recorded] == [1]
    for _ in range(4):
        recordings.run(padded_shape)
    assert [graph.replays for graph in device.recorded] == [1, 1]


def test_a_shape_that_cannot_be_recorded_runs_all_the_same() -> None:
    device = GraphsOfNothing()
    device.failing = True
    recordings = Recordings(device, lambda image: (image + 1, image), max_bytes=150)  # type: ignore[arg-type]
    for _ in range(5):
        assert (recordings.run(torch.zeros(1, 3, 8, 8))[0] == 1).all()


def test_all_recordings_share_one_pool_so_that_dropping_one_unmaps_nothing_of_another() -> None:
    device = GraphsOfNothing()
    recordings = Recordings(device, lambda image: (image,), max_bytes=10**6)  # type: ignore[arg-type]
    for width in range(8, 8 * (MOST_RECORDINGS + 2), 8):  # the last one evicts the first
        for _ in range(3):
            recordings.run(torch.zeros(1, 3, 8, width))
    assert len(device.recorded) == MOST_RECORDINGS + 1
    assert len(recordings) == MOST_RECORDINGS
    assert len(set(device.pools_used)) == 1


def test_the_bytes_of_a_recording_are_counted_although_a_capture_releases_what_eager_runs_left() -> None:
    device = GraphsOfNothing(peak=100, cached=5000)
    recordings = Recordings(device, lambda image: (image,), max_bytes=10**6)  # type: ignore[arg-type]
    for width in (8, 16):
        device.cached = 5000
        for _ in range(3):
            recordings.run(torch.zeros(1, 3, 8, width))
    assert recordings.bytes == device.memory_reserved() == 120


def test_a_pool_over_the_budget_is_dropped_whole_and_filled_again() -> None:
    device = GraphsOfNothing(peak=100)
    recordings = Recordings(device, lambda image: (image,), max_bytes=125)  # type: ignore[arg-type]
    for width in (8, 16, 24):
        for _ in range(3):
            recordings.run(torch.zeros(1, 3, 8, width))
    assert (len(recordings), recordings.bytes) == (0, 0)
    for _ in range(4):
        recordings.run(torch.zeros(1, 3, 8, 24))
    assert (len(recordings), recordings.bytes) == (1, 110)


@pytest.mark.parametrize(("peak", "room", "attempts"), [(100, 10**6, 1), (151, 10**6, 0), (100, 99, 0)])
def test_a_recording_over_the_budget_or_the_free_memory_is_not_tried_again(peak: int, room: int, attempts: int) -> None:
    device = GraphsOfNothing(peak, room=room)
    recordings = Recordings(device, lambda image: (image + 1, image), max_bytes=105 if attempts else 150)  # type: ignore[arg-type]
    for _ in range(8):
        assert (recordings.run(torch.zeros(1, 3, 8, 8))[0] == 1).all()
    assert device.attempts == attempts
    assert (len(recordings), recordings.bytes) == (0, 0)
