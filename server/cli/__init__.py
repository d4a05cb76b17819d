"""The command line: `promptir serve | restore | config | key | bench`."""

import os
import sys
from collections.abc import Sequence

from server.concurrency import available_cores

INTERRUPTED = 130  # the shells' convention: 128 + SIGINT
UNREAD = 141  # the same of SIGPIPE
# What OpenMP, and the BLAS of numpy, size their threads by; they read it as they are loaded.
_THREADS_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user can mend is one sentence on stderr, not a traceback."""
    _bound_libraries()
    from server.cli.commands import REFUSALS, parser  # which loads them

    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit of Python would try once more
        return UNREAD
    except REFUSALS as error:
        print(f"promptir: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _bound_libraries() -> None:
    """Have libraries start no more threads than this process has cores, where these are not all of the machine's."""
    if (share := available_cores()) < (os.cpu_count() or 1):
        for name in _THREADS_OF_LIBRARIES:
            os.environ.setdefault(name, str(share))
