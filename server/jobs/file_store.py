"""The Shelf: one folder of files that are whole or not there."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from models.regular_file import open_regular

_UNFINISHED = ".unfinished"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What is said of a device or a pipe, of a link, and of a socket.
_TAMPERED = {errno.EINVAL, errno.ELOOP, errno.ENXIO}


class Damaged(Exception):  # noqa: N818 - named for what happened, like the server's errors
    """A file is not as it was stored; the message says how."""


class Shelf:
    """Files by name, written to a temporary name, flushed to the disk and then renamed.

    All methods block and may raise OSError, also where a link stands in the place of the folder. The files are readable
    by this user alone: they are people's photos.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder where it is missing."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Store a file so that a crash at any moment leaves all of it or nothing of it under its name."""
        unfinished = name + _UNFINISHED
        with self._opened() as folder:
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
            os.fsync(folder)  # a rename is on the disk only once the folder is

    def open(self, name: str, size: int, digest: str | None = None) -> BinaryIO:
        """Open a file to read: it stays readable until closed, even where it is removed meanwhile.

        Raises Damaged where it is gone, of another size or digest, a link, or no file at all.
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
            raise Damaged(f"it has {found} bytes and not {size}")
        if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
            file.close()
            raise Damaged("its bytes are others")
        file.seek(0)
        return file

    def remove(self, name: str) -> None:
        """Remove a file, perhaps one that is gone already."""
        with self._opened() as folder:
            _remove(name, folder)

    def keep_only(self, names: set[str]) -> int:
        """Remove all other files, unfinished ones too; returns how many there were."""
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


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError, IsADirectoryError):  # the latter is not ours
        os.unlink(name, dir_fd=folder)
