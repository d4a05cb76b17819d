"""Tests of the allocator's arenas, in separate processes."""

import os
import platform
import re
import subprocess
import sys

import pytest

from server.restore import allocator

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas to count")

# All threads allocate concurrently; malloc_info then lists each arena as a <heap>, and the mapped blocks.
PROGRAM = """
import ctypes, runpy, sys, threading
file, how = sys.argv[1:]
limit_retained_memory = runpy.run_path(file)["limit_retained_memory"]  # without the packages above it
done = limit_retained_memory() if how == "bounded" else False
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(12_000_000))
libc.malloc(11_000_000)  # glibc by itself has now learnt to keep such blocks in its arena
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


def outcome(how: str, **environment: str) -> tuple[bool, int, int]:
    """Return whether the limit was set, the number of arenas, and the number of mapped blocks."""
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
    mapped = re.findall(r'<total type="mmap" count="(\d+)"', ended.stdout)
    return ended.stdout.startswith("True"), ended.stdout.count("<heap nr="), int(mapped[-1])


def test_threads_share_an_arena_and_large_blocks_are_the_systems_only_once_that_is_asked_for() -> None:
    done, arenas, mapped = outcome("bounded")
    assert (done, arenas) == (True, 1)
    _, more_arenas, fewer_mapped = outcome("as it is")
    assert more_arenas > 1
    assert mapped > fewer_mapped


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "8"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}], ids=["old", "new"]
)
def test_who_has_chosen_in_the_environment_is_left_alone(environment: dict[str, str]) -> None:
    done, arenas, _ = outcome("bounded", **environment)
    assert not done
    assert arenas > 1
