"""Open files that must be regular ones: a device, a pipe or a folder is refused before anything is read from it."""

import errno
import io
import os
import stat
from pathlib import Path

# A pipe without a writer, or a terminal, would otherwise hold whoever opens it.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path, *, follow_links: bool = True, folder: int | None = None) -> io.BufferedReader:
    """Open a regular file to read; OSError for anything else, for links too unless they are followed.

    `path` may be relative to a folder that is open.
    """
    found = os.stat(path, dir_fd=folder, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):  # merely to open a device can act on it
        raise _no_file(path)
    descriptor = os.open(path, _FLAGS if follow_links else _FLAGS | _NO_LINK, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was replaced in between
            raise _no_file(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a whole regular file; OSError where it is none, or holds more than `max_bytes`."""
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"It is larger than {max_bytes} bytes", str(path))
    return data


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "It is not a regular file", str(path))
