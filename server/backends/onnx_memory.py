"""The memory of onnxruntime on the CPU: an arena that photos of every size leave as they found it."""

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

# The arena grows by pieces from here on, each too large for the heap of the C library (server/cli/allocator.py): its
# own first 2 MiB would lie there, and a heap gives back its end only.
GROWTH_BYTES = 8 * 2**20
# More at a time, and a run of many tensors leaves more of its last piece unused; less, and large ones fill none.
MOST_GROWTH_BYTES = 256 * 2**20
POWERS_OF_TWO = 0

_registering = threading.Lock()
_registered = False


def use_arena(ort: Any, options: "onnxruntime.SessionOptions") -> None:
    """Let a session on the CPU take its memory from the arena of this process, which the first call makes."""
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
    """Options of a run at whose end the arena gives back what nobody holds."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
