"""The allocator: the C library's, told to give the memory of large photos back."""

import ctypes
import os

# Parameters of mallopt, from <malloc.h> of glibc, and what they are set to.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ONE_ARENA = 1
# Larger buffers, those of photos from about 600 x 600 on, go back to the system as soon as they are freed.
MAPPED_BYTES = 4 * 2**20
# So much may stay free at the end of the heap, for the next small image.
KEPT_BYTES = 8 * 2**20
# Whoever starts the process may have chosen already.
CHOICES = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def limit_retained_memory() -> bool:
    """Bound what stays of freed memory; whether it was done: not where the environment or the C library decides.

    By itself glibc gives each thread that allocates an arena of its own, and raises both thresholds up to the size of
    what was freed: so every thread keeps the room of the largest photo that it has decoded, and memory grows until each
    has met one (docs/security.md has the figures). To be called before threads start, since an arena that exists stays.
    """
    if any(name in os.environ for name in CHOICES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    wanted = ((M_ARENA_MAX, ONE_ARENA), (M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    return all(bool(mallopt(parameter, value)) for parameter, value in wanted)
