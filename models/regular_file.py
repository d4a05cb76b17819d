"""Opening of regular files only: devices, pipes and folders are rejected before any read."""

import errno
import io
import os
import stat
from pathlib import Path

# Without O_NONBLOCK, opening a terminal or a pipe without a writer would block.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path, *, follow_links: bool = True, folder: int | None = None) -> io.BufferedReader:
    """Open a regular file for reading; raise `OSError` for anything else, and for links unless `follow_links`.

    `path` may be relative to an open `folder` descriptor.
    """
    found = os.stat(path, dir_fd=folder, follow_symlinks=follow_links)
    if not stat.S_ISREG(found.st_mode):  # checked first, because opening a device can have side effects
        raise _no_file(path)
    descriptor = os.open(path, _FLAGS if follow_links else _FLAGS | _NO_LINK, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # replaced between the two checks
            raise _no_file(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a whole regular file; raise `OSError` if it is not regular or larger than `max_bytes`."""
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"It is larger than {max_bytes} bytes", str(path))
    return data


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "It is not a regular file", str(path))
