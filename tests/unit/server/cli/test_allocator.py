"""Tests of the allocator's arenas, in processes of their own."""

import os
import platform
import subprocess
import sys

import pytest

from server.cli import allocator

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas to count")

# Every thread allocates while the others do; malloc_info then writes each arena as a <heap>.
PROGRAM = """
import ctypes, runpy, sys, threading
file, how = sys.argv[1:]
share_one_arena = runpy.run_path(file)["share_one_arena"]  # without the packages above it, and their threads
done = share_one_arena() if how == "share" else False
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
all_here = threading.Barrier(4)
def allocate():
    all_here.wait()
    libc.malloc(50_000)
    all_here.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
print(done, flush=True)
libc.malloc_info(0, out)
libc.fflush(out)
"""


def arenas(how: str, **environment: str) -> tuple[bool, int]:
    """Whether it was done, and the arenas of the process then."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, allocator.__file__, how],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.startswith("True"), ended.stdout.count("<heap nr=")


def test_threads_share_the_one_arena_only_once_they_are_told_to() -> None:
    assert arenas("share") == (True, 1)
    assert arenas("leave")[1] > 1


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "8"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}], ids=["old", "new"]
)
def test_who_has_chosen_in_the_environment_is_left_alone(environment: dict[str, str]) -> None:
    done, count = arenas("share", **environment)
    assert not done
    assert count > 1
