"""Command line: `promptir serve | restore | config | key | bench`."""

import os
import sys
from collections.abc import Sequence

from server.concurrency import available_cores

INTERRUPTED = 130  # the shells' convention: 128 + SIGINT
WRONG_USAGE = 2  # as argparse has it
BROKEN_PIPE = 141  # 128 + SIGPIPE
# Thread counts of OpenMP and numpy's BLAS, which read them when they are loaded.
_THREADS_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors that the user can fix print one sentence, not a traceback."""
    _bound_libraries()
    from server.cli.commands import parser  # imports the libraries
    from server.cli.user_errors import USER_ERRORS

    program = parser()
    if not (sys.argv[1:] if argv is None else argv):
        program.print_help(sys.stderr)
        return WRONG_USAGE
    arguments = program.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python flushes again at exit
        return BROKEN_PIPE
    except USER_ERRORS as error:
        print(f"promptir: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _sentence(error: Exception) -> str:
    """Return the message of an error; that of a file operation as `FILE: REASON`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _bound_libraries() -> None:
    """Limit library threads to the process's cores if it may not use the whole machine."""
    if (share := available_cores()) < (os.cpu_count() or 1):
        for name in _THREADS_OF_LIBRARIES:
            os.environ.setdefault(name, str(share))
