"""Configuration of glibc's allocator to return the memory of large photos to the system."""

import ctypes
import os

# Parameters of mallopt, from glibc's <malloc.h>, and their values.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ONE_ARENA = 1
# Larger buffers, such as those of photos above 830 x 830, are returned to the system when they are freed. Those of a
# batch of small images are not: to get fresh pages for each would cost 4 % of the images of 256 x 256 a second.
MAPPED_BYTES = 8 * 2**20
# Free memory kept at the end of the heap for the next small image.
KEPT_BYTES = 8 * 2**20
# Environment variables that may already configure the allocator.
CHOICES = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def limit_retained_memory(mapped_bytes: int = MAPPED_BYTES, kept_bytes: int = KEPT_BYTES) -> bool:
    """Limit how much freed memory the process keeps; returns False if the environment or C library prevents it.

    By default glibc gives each allocating thread its own arena and raises both thresholds to the size of freed blocks,
    so every thread keeps the memory of the largest photo it has decoded (figures: docs/security.md). Must be called
    before threads start, because existing arenas stay.
    """
    if any(name in os.environ for name in CHOICES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    wanted = ((M_ARENA_MAX, ONE_ARENA), (M_MMAP_THRESHOLD, mapped_bytes), (M_TRIM_THRESHOLD, kept_bytes))
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted)
