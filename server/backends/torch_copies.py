"""The Copies: batches on their way to a CUDA device and back, beside the runs of others."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any


class Copies:
    """Copies beside the runs: a stream for those to the device and one for those from it, ordered by waits."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch: Any = torch
        self._in, self._out = torch.cuda.Stream(), torch.cuda.Stream()

    def around(self, network: Any, inputs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Queue copy, run and copies of inputs on the host: the memory of the answers, and their arrival."""
        cuda = self._torch.cuda
        runs = cuda.current_stream()
        # Page-locked memory, which torch keeps and hands out again once the device is done with it.
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
        arrived = cuda.Event()
        arrived.record(self._out)
        return answers, arrived
