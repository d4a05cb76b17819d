"""The Shelf: one folder of files that are whole or not there."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from models.regular_file import open_regular

_UNFINISHED = ".unfinished"
# What is said of a device or a pipe, of a link, and of a socket.
_TAMPERED = {errno.EINVAL, errno.ELOOP, errno.ENXIO}


class Damaged(Exception):  # noqa: N818 - named for what happened, like the server's errors
    """A file is not as it was stored; the message says how."""


class Shelf:
    """Files by name, written to a temporary name, flushed to the disk and then renamed.

    All methods block and may raise OSError. The files are readable by this user alone: they are people's photos.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder where it is missing."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Store a file so that a crash at any moment leaves all of it or nothing of it under its name."""
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
        """Open a file to read: it stays readable until closed, even where it is removed meanwhile.

        Raises Damaged where it is gone, of another size or digest, a link, or no file at all.
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
            raise Damaged(f"it has {found} bytes and not {size}")
        if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
            file.close()
            raise Damaged("its bytes are others")
        file.seek(0)
        return file

    def remove(self, name: str) -> None:
        """Remove a file, perhaps one that is gone already."""
        with suppress(IsADirectoryError):  # which is not ours
            (self.folder / name).unlink(missing_ok=True)

    def keep_only(self, names: set[str]) -> int:
        """Remove all other files, unfinished ones too; returns how many there were."""
        strays = [path for path in self.folder.iterdir() if path.name not in names]
        for path in strays:
            self.remove(path.name)
        return len(strays)

    def _flush_names(self) -> None:
        # A rename is on the disk only once the folder is.
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
