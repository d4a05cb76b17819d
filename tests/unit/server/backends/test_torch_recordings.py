"""Tests of the Recordings, with graphs that record nothing."""

from typing import Any

import pytest

from server.backends.torch_recordings import Recordings

torch = pytest.importorskip("torch", reason="runs its networks with torch (extra `export`)")


class GraphsOfNothing:
    """As much of torch as a recording asks for; a graph that fails to record where `failing` says so."""

    class CUDAGraph:
        replays = 0

        def replay(self) -> None:
            self.replays += 1

    def __init__(self) -> None:
        self.cuda = self
        self.failing = False
        self.recorded: list[Any] = []

    def memory_reserved(self) -> int:
        return 100 * len(self.recorded)

    def Stream(self) -> str:  # noqa: N802 - torch's own name
        return "a stream of this device"

    def graph(self, graph: Any, stream: str, capture_error_mode: str) -> Any:
        assert (stream, capture_error_mode) == ("a stream of this device", "thread_local")
        if self.failing:
            raise torch.OutOfMemoryError("no room for a graph")
        self.recorded.append(graph)
        return torch.inference_mode()


def test_a_shape_is_recorded_on_its_third_run_and_replayed_from_then_on() -> None:
    device = GraphsOfNothing()
    runs: list[int] = []
    recordings = Recordings(device, lambda image: runs.append(1) or (image,), max_bytes=150)  # type: ignore[arg-type,func-returns-value]
    for value in range(5):
        (output,) = recordings.run(torch.full((1, 3, 8, 8), float(value)))
        assert (output == value).all()
    assert len(runs) == 3
    assert [graph.replays for graph in device.recorded] == [3]


def test_a_padded_shape_has_one_recording_for_all_sizes_of_its_images_and_another_for_plain_runs() -> None:
    device = GraphsOfNothing()
    recordings = Recordings(device, lambda image, *sides: (image, *sides), max_bytes=10**6)  # type: ignore[arg-type]
    padded_shape = torch.zeros(2, 3, 16, 16)
    for number in range(4):
        heights, widths = torch.tensor([8, 16]), torch.tensor([16, number])
        _, answered_heights, answered_widths = recordings.run(padded_shape, heights, widths)
        assert (answered_heights.tolist(), answered_widths.tolist()) == ([8, 16], [16, number])
    assert [graph.replays for graph in device.recorded] == [2]
    for _ in range(3):
        recordings.run(padded_shape)
    assert [graph.replays for graph in device.recorded] == [2, 1]


def test_a_shape_that_cannot_be_recorded_runs_all_the_same() -> None:
    device = GraphsOfNothing()
    device.failing = True
    recordings = Recordings(device, lambda image: (image + 1, image), max_bytes=150)  # type: ignore[arg-type]
    for _ in range(5):
        assert (recordings.run(torch.zeros(1, 3, 8, 8))[0] == 1).all()


def test_a_recording_over_the_budget_is_dropped_and_not_tried_again() -> None:
    device = GraphsOfNothing()
    recordings = Recordings(device, lambda image: (image + 1, image), max_bytes=99)  # type: ignore[arg-type]
    for _ in range(5):
        assert (recordings.run(torch.zeros(1, 3, 8, 8))[0] == 1).all()
    assert len(device.recorded) == 1
