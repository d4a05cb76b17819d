"""The memory arena of onnxruntime on the CPU, which does not grow with the variety of photo sizes."""

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

# The arena grows in pieces of at least this size, each too large for the heap of the C library (see
# server/restore/allocator.py). Its default first piece of 2 MiB would lie in that heap, which can only release its end.
GROWTH_BYTES = 8 * 2**20
# Larger pieces leave more of the last one unused; smaller ones do not hold large tensors.
MOST_GROWTH_BYTES = 256 * 2**20
POWERS_OF_TWO = 0

_registering = threading.Lock()
_registered = False


def use_arena(ort: Any, options: "onnxruntime.SessionOptions") -> None:
    """Make a session on the CPU allocate from the arena of this process, which the first call creates."""
    global _registered
    with _registering:
        if not _registered:
            arena = ort.OrtArenaCfg(
                {
                    "arena_extend_strategy": POWERS_OF_TWO,
                    "initial_growth_chunk_size_bytes": GROWTH_BYTES,
                    "max_power_of_two_extend_bytes": MOST_GROWTH_BYTES,
                }
            )
            memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            ort.create_and_register_allocator(memory, arena)
            _registered = True
    options.add_session_config_entry("session.use_env_allocators", "1")


def releasing_options(ort: Any) -> "onnxruntime.RunOptions":
    """Return options of a run after which the arena releases unused memory."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
