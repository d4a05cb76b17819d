"""Folder of files that are each complete or absent."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from models.regular_file import open_regular

_UNFINISHED = ".unfinished"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Errors of opening a device or pipe, a symbolic link, and a socket.
_TAMPERED = {errno.EINVAL, errno.ELOOP, errno.ENXIO}


class Damaged(Exception):  # noqa: N818 - named for what happened, like the server's errors
    """Reports a stored file that was changed or removed; the message says how."""


class FileStore:
    """Writes files atomically: to a temporary name, flushed to the disk, then renamed.

    All methods block and may raise OSError, also if the folder was replaced by a link. Files are readable only by this
    user, because they are people's photos.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Create the folder if it is missing."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a crash at any moment leaves it complete or absent."""
        self.write_all({name: data})

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write files, each of which a crash leaves complete or absent; an error leaves the ones before it."""
        with self._opened() as folder:
            for name, data in files.items():
                _write(name, data, folder)
            os.fsync(folder)  # a rename is on the disk only once the folder is

    def open(self, name: str, size: int, digest: str | None = None) -> BinaryIO:
        """Open a file for reading; it stays readable until closed, even if it is removed meanwhile.

        Raises Damaged if it is missing, has another size or SHA-256 digest, or is not a regular file.
        """
        with self._opened() as folder:
            try:
                file = open_regular(Path(name), follow_links=False, folder=folder)
            except FileNotFoundError:
                raise Damaged("it is gone") from None
            except OSError as error:
                if error.errno not in _TAMPERED:
                    raise
                raise Damaged("there is something else in its place") from error
        found = os.fstat(file.fileno()).st_size
        if found != size:
            file.close()
            raise Damaged(f"it has {found} bytes instead of {size}")
        if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
            file.close()
            raise Damaged("its content has changed")
        file.seek(0)
        return file

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with self._opened() as folder:
            _remove(name, folder)

    def keep_only(self, names: set[str]) -> int:
        """Remove all files except `names`, including unfinished ones; returns how many were removed."""
        with self._opened() as folder:
            strays = set(os.listdir(folder)) - names  # noqa: PTH208 - Path.iterdir takes no descriptor
            for name in strays:
                _remove(name, folder)
        return len(strays)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # Files are reached through it and not by a path, which a link could lead elsewhere from one call to the next.
        descriptor = os.open(self.folder, _FOLDER)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write(name: str, data: bytes, folder: int) -> None:
    unfinished = name + _UNFINISHED
    try:
        descriptor = os.open(unfinished, _NEW, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(unfinished, folder)  # a full disk has no room for leftovers
        raise


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError, IsADirectoryError):  # the latter is not ours
        os.unlink(name, dir_fd=folder)
