"""Tests of the shared memory of a server's processes."""

import subprocess
import sys

_PROGRAM = """
from server.shared_memory import Attachments, SegmentPool
pool, attachments = SegmentPool(), Attachments()
lease = pool.lend(1000)
view = attachments.view(lease.name)[:10]
pool.close()
"""


def test_a_process_that_ends_with_a_segment_in_use_says_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
