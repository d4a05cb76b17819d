"""The Recordings: CUDA graphs of a torch network, kept for shapes that come again."""

import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from server.backends.shape_cache import Shape, ShapeCache

log = logging.getLogger(__name__)

# The first runs of a shape choose algorithms and fill caches, which must not happen inside a recording.
RUNS_BEFORE_RECORDING = 2
# Each holds some thousand kernel nodes on the device, whatever its tensors take.
MOST_RECORDINGS = 32


@dataclass(frozen=True)
class _Recording:
    graph: Any
    inputs: tuple[Any, ...]
    outputs: Any


class Recordings:
    """CUDA graphs of a network, one a shape, each with its own memory so that dropping one gives it all back.

    A masked run, whose further inputs are each image's own height and width, has one a padded_shape, whatever they are.
    """

    def __init__(self, torch: ModuleType, network: Any, max_bytes: int) -> None:
        self._torch: Any = torch
        self._network = network
        self._cache: ShapeCache[_Recording] = ShapeCache(max_bytes, MOST_RECORDINGS, RUNS_BEFORE_RECORDING)
        # Of this device: the stream that torch would take by itself belongs to the first device that recorded.
        self._stream = self._torch.cuda.Stream()

    def run(self, image: Any, *sides: Any) -> Any:
        """The network's answers, a tuple, for (N, 3, H, W) on the device, in memory of their own."""
        inputs = (image, *sides)
        key = (*image.shape, len(inputs))
        recording = self._cache.get(key)
        if recording is None and self._cache.is_due(key):
            recording = self._record(key, inputs)
        if recording is None:
            return self._network(*inputs)
        for static, given in zip(recording.inputs, inputs, strict=True):
            static.copy_(given)
        recording.graph.replay()
        # The next replay overwrites them, maybe before they are copied out.
        return tuple(output.clone() for output in recording.outputs)

    def clear(self) -> None:
        """Drop every recording and its memory."""
        self._cache.clear()

    def _record(self, key: Shape, inputs: tuple[Any, ...]) -> _Recording | None:
        """Record a run of this shape; None where it cannot be recorded, or takes more memory than the budget."""
        torch = self._torch
        before = torch.cuda.memory_reserved()
        try:
            graph, static = torch.cuda.CUDAGraph(), tuple(given.clone() for given in inputs)
            # Other devices' threads allocate meanwhile, which torch's default forbids to the whole process.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = self._network(*static)
        except RuntimeError as error:  # out of memory too; the run itself may well go on without a graph
            log.warning("a shape cannot be recorded as a CUDA graph", extra={"shape": key[:-1], "reason": str(error)})
            self._cache.refuse(key)
            return None
        recording = _Recording(graph, static, outputs)
        self._cache.put(key, recording, max(0, torch.cuda.memory_reserved() - before))
        return self._cache.get(key)
