"""Tests of which errors count as lack of memory."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from server.errors.memory import is_memory_short


def raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def of_a_start() -> None:
    def never() -> None:
        raise RuntimeError("words that nobody reads")

    never()


def chained() -> None:
    try:
        raise MemoryError
    except MemoryError as error:
        raise ValueError("the file is bad") from error


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: bytes(2**62), True),
        (lambda: np.empty(2**60, np.uint8), True),
        (chained, True),
        (of_a_start, False),
        (lambda: {}["x"], False),
    ],
)
def test_it_is_known_by_its_kind_and_place(work: Callable[[], object], expected: bool) -> None:
    assert is_memory_short(raised(work)) is expected


def test_nothing_is_no_want_of_memory() -> None:
    assert not is_memory_short(None)


def test_a_thread_that_cannot_be_started_is_one() -> None:
    code = (
        "import resource, threading; from server.errors.memory import is_memory_short\n"
        "threading.stack_size(64 * 2**20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (16 * 2**20, -1))\n"
        "try: threading.Thread(target=print).start()\n"
        "except RuntimeError as error: print(is_memory_short(error))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "True\n", ended.stderr


def test_json_survives_want_of_memory_once_its_cache_is_there() -> None:
    code = """
import re, resource
from pathlib import Path
from pydantic_core import from_json
from server.errors.memory import reserve_string_cache

reserve_string_cache()
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used, -1))
print(from_json('{"key": "value"}'))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "{'key': 'value'}\n"), ended.stderr
