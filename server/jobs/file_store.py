"""Folder of files that are each complete or absent."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from models.regular_file import open_regular

_UNFINISHED = ".unfinished"
# Errors of opening a device or pipe, a symbolic link, and a socket.
_TAMPERED = {errno.EINVAL, errno.ELOOP, errno.ENXIO}


class Damaged(Exception):  # noqa: N818 - named for what happened, like the server's errors
    """Reports a stored file that was changed or removed; the message says how."""


class FileStore:
    """Writes files atomically: to a temporary name, flushed to the disk, then renamed.

    All methods block and may raise OSError. Files are readable only by this user, because they are people's photos.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Create the folder if it is missing."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a crash at any moment leaves it complete or absent."""
        unfinished = self.folder / (name + _UNFINISHED)
        try:
            with open(unfinished, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.folder / name)
        except OSError:
            unfinished.unlink(missing_ok=True)  # a full disk has no room for leftovers
            raise
        self._flush_names()

    def open(self, name: str, size: int, digest: str | None = None) -> BinaryIO:
        """Open a file for reading; it stays readable until closed, even if it is removed meanwhile.

        Raises Damaged if it is missing, has another size or SHA-256 digest, or is not a regular file.
        """
        try:
            file = open_regular(self.folder / name, follow_links=False)
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
        with suppress(IsADirectoryError):  # a folder is not one of our files
            (self.folder / name).unlink(missing_ok=True)

    def keep_only(self, names: set[str]) -> int:
        """Remove all files except `names`, including unfinished ones; returns how many were removed."""
        strays = [path for path in self.folder.iterdir() if path.name not in names]
        for path in strays:
            self.remove(path.name)
        return len(strays)

    def _flush_names(self) -> None:
        # A rename is durable only once the folder is flushed.
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
