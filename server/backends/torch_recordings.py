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
NO_BYTES = 0


@dataclass(frozen=True)
class _Recording:
    graph: Any
    inputs: tuple[Any, ...]
    outputs: Any


class Recordings:
    """CUDA graphs of a network, one for each shape, which share one memory pool of at most `max_bytes`.

    One pool serves all of them because they never run at the same time. It must be one: torch gives all graphs of a
    stream the same cuBLAS workspace, and dropping the graph that brought it would unmap it under the others
    (pytorch/pytorch#193402). A pool shrinks only with its last graph, so a full one is dropped with all its graphs.

    Mixed-size batches, whose further inputs are the sizes of their images, have one graph for each padded shape.
    """

    def __init__(self, torch: ModuleType, network: Any, max_bytes: int) -> None:
        self._torch: Any = torch
        self._network = network
        self._max_bytes = max_bytes
        self._cache: ShapeCache[_Recording] = ShapeCache(max_bytes, MOST_RECORDINGS, RUNS_BEFORE_RECORDING)
        # On this device: torch's own choice is a stream of the first device that recorded.
        self._stream = self._torch.cuda.Stream()
        self._pool = self._torch.cuda.graph_pool_handle()
        self.bytes = 0
        """Device memory that the pool and the inputs of the recordings reserve."""

    def __len__(self) -> int:
        return len(self._cache)

    def run(self, image: Any, *sides: Any) -> Any:
        """Run (N, 3, H, W) on the device; return the tuple of the network's outputs, in fresh memory."""
        inputs = (image, *sides)
        key = (*image.shape, len(inputs))
        recording = self._cache.get(key)
        if recording is None:
            return self._run_and_record(key, inputs) if self._cache.is_due(key) else self._network(*inputs)
        for static, given in zip(recording.inputs, inputs, strict=True):
            static.copy_(given)
        recording.graph.replay()
        # The next replay overwrites the outputs, perhaps before they are copied out.
        return tuple(output.clone() for output in recording.outputs)

    def clear(self) -> None:
        """Drop every recording and, with the next `empty_cache`, the memory of all."""
        self._cache.clear()
        self._pool = self._torch.cuda.graph_pool_handle()
        self.bytes = 0

    def _run_and_record(self, key: Shape, inputs: tuple[Any, ...]) -> Any:
        """Run once more without a graph, measuring what the run needs, and record the shape if that fits."""
        cuda = self._torch.cuda
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        outputs = self._network(*inputs)
        needed = cuda.max_memory_allocated() - before
        if needed > self._max_bytes:
            log.info("a shape is too large to be recorded", extra={"shape": key[:-1], "bytes": needed})
            self._cache.refuse(key)
        else:
            self._record(key, inputs, needed)
        return outputs

    def _record(self, key: Shape, inputs: tuple[Any, ...], needed: int) -> None:
        """Record a run of this shape, unless the device has no room for it now; `needed` is the peak of such a run."""
        cuda = self._torch.cuda
        cuda.synchronize()
        # What torch keeps for eager runs is no use to the pool, and would hide in `before` what the pool takes.
        cuda.empty_cache()
        free, _ = cuda.mem_get_info()
        if free + self.bytes < needed:
            log.warning("no room to record a shape", extra={"shape": key[:-1], "bytes": needed, "free_bytes": free})
            self._cache.refuse(key)
            return
        before = cuda.memory_reserved()
        try:
            recording = self._captured(inputs)
        except RuntimeError as error:  # out of memory too; the run itself may well go on without a graph
            log.warning("a shape cannot be recorded as a CUDA graph", extra={"shape": key[:-1], "reason": str(error)})
            self._cache.refuse(key)
            return
        cuda.empty_cache()
        self.bytes += max(0, cuda.memory_reserved() - before)
        if self.bytes <= self._max_bytes:
            self._cache.put(key, recording, NO_BYTES)
            return
        alone = not len(self._cache)
        del recording
        self.clear()
        cuda.empty_cache()
        if alone:  # otherwise it is recorded again, into an empty pool, if it still repeats
            self._cache.refuse(key)

    def _captured(self, inputs: tuple[Any, ...]) -> _Recording:
        cuda = self._torch.cuda
        graph, static = cuda.CUDAGraph(), tuple(given.clone() for given in inputs)
        # By default torch forbids allocations in the whole process meanwhile, also to the threads of other devices.
        capture = cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        with capture:
            outputs = self._network(*static)
        return _Recording(graph, static, outputs)
