"""Copies of batches to a CUDA device and back, which overlap the runs of other batches."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any


class Copies:
    """Two streams beside that of the runs: one copies to the device, one from it; events order the three."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch: Any = torch
        self._in, self._out = torch.cuda.Stream(), torch.cuda.Stream()

    def around(self, network: Any, inputs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Queue copy in, run and copy out; return the host memory of the outputs and the event of their arrival."""
        cuda = self._torch.cuda
        runs = cuda.current_stream()
        # Page-locked memory, which torch reuses once the device is done with it.
        staged = [self._torch.empty(each.shape, dtype=each.dtype, pin_memory=True).copy_(each) for each in inputs]
        with cuda.stream(self._in):
            on_device = [each.to("cuda", non_blocking=True) for each in staged]
        runs.wait_stream(self._in)
        for each in on_device:  # or its memory could be given to the next copy in while the run reads it
            each.record_stream(runs)
        outputs = network(*on_device)
        self._out.wait_stream(runs)
        answers = [self._torch.empty(output.shape, dtype=output.dtype, pin_memory=True) for output in outputs]
        for answer, output in zip(answers, outputs, strict=True):
            with cuda.stream(self._out):
                answer.copy_(output, non_blocking=True)
            output.record_stream(self._out)
        arrived = cuda.Event(blocking=True)  # by default a thread that waits for it spins on a core
        arrived.record(self._out)
        return answers, arrived
