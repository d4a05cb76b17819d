"""CUDA graphs of a torch network, kept for shapes that repeat."""

import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from server.backends.shape_cache import Shape, ShapeCache

log = logging.getLogger(__name__)

# The first runs of a shape choose algorithms and fill caches, which must not happen during a recording.
RUNS_BEFORE_RECORDING = 2
# Each holds some thousand kernel nodes on the device, in addition to its tensors.
MOST_RECORDINGS = 32


@dataclass(frozen=True)
class _Recording:
    graph: Any
    inputs: tuple[Any, ...]
    outputs: Any


class Recordings:
    """CUDA graphs of a network, one for each shape, each with its own memory so that dropping one releases all of it.

    Mixed-size batches, whose further inputs are the sizes of their images, have one graph for each padded shape.
    """

    def __init__(self, torch: ModuleType, network: Any, max_bytes: int) -> None:
        self._torch: Any = torch
        self._network = network
        self._cache: ShapeCache[_Recording] = ShapeCache(max_bytes, MOST_RECORDINGS, RUNS_BEFORE_RECORDING)
        # On this device: torch's own choice is a stream of the first device that recorded.
        self._stream = self._torch.cuda.Stream()

    def run(self, image: Any, *sides: Any) -> Any:
        """Run (N, 3, H, W) on the device; return the tuple of the network's outputs, in fresh memory."""
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
        # The next replay overwrites the outputs, perhaps before they are copied out.
        return tuple(output.clone() for output in recording.outputs)

    def clear(self) -> None:
        """Drop every recording and its memory."""
        self._cache.clear()

    def _record(self, key: Shape, inputs: tuple[Any, ...]) -> _Recording | None:
        """Record a run of this shape; None if it cannot be recorded or exceeds the memory budget."""
        torch = self._torch
        before = torch.cuda.memory_reserved()
        try:
            graph, static = torch.cuda.CUDAGraph(), tuple(given.clone() for given in inputs)
            # By default torch forbids allocations in the whole process meanwhile, also to the threads of other devices.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = self._network(*static)
        except RuntimeError as error:  # out of memory too; the run itself may well go on without a graph
            log.warning("a shape cannot be recorded as a CUDA graph", extra={"shape": key[:-1], "reason": str(error)})
            self._cache.refuse(key)
            return None
        recording = _Recording(graph, static, outputs)
        self._cache.put(key, recording, max(0, torch.cuda.memory_reserved() - before))
        return self._cache.get(key)
