"""Bound the thread pools of asyncio and of the web framework, which are sized for the machine and for any program."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from anyio import to_thread

WAITING_THREADS = 4
"""Beside one a core: they wait for files and drivers as well."""


def bound_pools(cores: int) -> None:
    """Size both pools of the running event loop by the cores of this process's share."""
    threads = cores + WAITING_THREADS
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="promptir-aside"))
    to_thread.current_default_thread_limiter().total_tokens = threads
