"""The allocator: the C library's, told not to keep what was freed once for each thread."""

import ctypes
import os

# <malloc.h> of glibc.
M_ARENA_MAX = -8
ONE_ARENA = 1
# Whoever starts the process may have chosen already.
CHOICES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def share_one_arena() -> bool:
    """Let all threads allocate from one arena; whether it was done: not where the environment or the C library decides.

    By itself glibc gives each thread that allocates an arena of its own, and each keeps the room of the largest photo
    that its thread has decoded: memory then grows until every thread has met one (docs/security.md has the figures).
    To be called before threads start, since an arena that exists stays.
    """
    if any(name in os.environ for name in CHOICES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(M_ARENA_MAX, ONE_ARENA))
