"""Reads photos from paths and URIs, and writes results atomically."""

import errno
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from server.cli.restore.inputs import is_uri
from server.cli.restore.lists import path_of
from server.errors import InvalidRequest

_DOWNLOAD_S = 60.0
# Errors of file systems without hard links, such as FAT and some network mounts.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def read(source: str) -> bytes:
    """Read a path or URI (file, http, https; s3, gs and hdfs through pyarrow); raises OSError."""
    if not is_uri(source):
        return _read_file(Path(source))
    uri = urlsplit(source)
    if uri.scheme == "file":
        return _read_file(Path(path_of(source)))
    try:
        return _download(source) if uri.scheme in ("http", "https") else _read_store(source)
    except ImportError as error:
        raise OSError(f"{source} needs {error.name}: install the extra `client` or `ray`") from error


def write(target: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file atomically and durably; without `overwrite` never replaces another file.

    Raises InvalidRequest if the target exists, and OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{_prefix()}{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            partial.replace(target)
        else:
            _claim(partial, target)
        _flush_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    # A new name is on the disk only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not flush folders
            raise
    finally:
        os.close(descriptor)


def check_free(target: Path, *, overwrite: bool, can_skip: bool = False) -> None:
    """Raise InvalidRequest if a folder, or a file that is to be kept, is in the way of a result.

    `can_skip` says that the command has --skip-existing.
    """
    if target.is_dir():
        raise InvalidRequest(f"the result would be {target}, which is a folder; move it or choose another OUT")
    if (file := next((parent for parent in target.parents if parent.is_file()), None)) is not None:
        raise InvalidRequest(f"the result would be {target}, but {file} is a file; move it or choose another OUT")
    if not overwrite and target.exists():
        raise _exists(target, can_skip=can_skip)


def _exists(target: Path, *, can_skip: bool = False) -> InvalidRequest:
    skipping = " or skip it with --skip-existing" if can_skip else ""
    return InvalidRequest(f"{target} exists; replace it with --overwrite{skipping}")


def sweep(folders: Iterable[Path]) -> int:
    """Remove unfinished files that killed runs on this machine left in these folders; returns how many."""
    pattern = re.compile(re.escape(_prefix()) + r"(\d+)-\w+\.partial")
    swept = 0
    for folder in folders:
        for path in folder.glob(f"{_prefix()}*.partial"):
            found = pattern.fullmatch(path.name)
            if found is not None and not _is_alive(int(found[1])):
                path.unlink(missing_ok=True)
                swept += 1
    return swept


def _claim(partial: Path, target: Path) -> None:
    # Creating a link fails if the name exists; a check and a rename would race with other processes.
    try:
        os.link(partial, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise _exists(target) from None
        partial.rename(target)


def _prefix() -> str:
    return f".promptir-{socket.gethostname()}-"


def _is_alive(process: int) -> bool:
    if process == os.getpid():  # a reused process id: this process has written nothing yet
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_file(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe without a writer would block for ever
        raise OSError(f"{path} is not a regular file")
    return path.read_bytes()


def _download(source: str) -> bytes:
    import httpx

    try:
        return httpx.get(source, follow_redirects=True, timeout=_DOWNLOAD_S).raise_for_status().content
    except httpx.HTTPError as error:
        raise OSError(f"{source} cannot be fetched: {error}") from error


def _read_store(source: str) -> bytes:
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(source)
        with system.open_input_file(path) as file:
            data: bytes = file.read()
    except ValueError as error:  # pyarrow raises it for unknown schemes too
        raise OSError(f"{source} cannot be read: {error}") from error
    return data
