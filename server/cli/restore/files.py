"""Files: photos read from wherever they are, results that appear whole or not at all."""

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
# File systems without hard links: FAT, some network mounts.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def read(source: str) -> bytes:
    """The bytes of a path or a URI (file, http, https; s3, gs, hdfs through pyarrow). Raises OSError."""
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
    """Write a file that is there whole, on the disk, or not at all; without `overwrite` never over another.

    Raises InvalidRequest where the target exists, OSError.
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
    finally:
        partial.unlink(missing_ok=True)


def exists(target: Path) -> InvalidRequest:
    """What is said of a result that would be overwritten."""
    return InvalidRequest(f"{target} exists; --overwrite replaces it, --skip-existing passes over it")


def sweep(folders: Iterable[Path]) -> int:
    """Remove what killed runs of this machine left half written in these folders; the number of files."""
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
    # A link is refused where the name is taken: between a look and a rename another process could take it.
    try:
        os.link(partial, target)
    except FileExistsError:
        raise exists(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise exists(target) from None
        partial.rename(target)


def _prefix() -> str:
    return f".promptir-{socket.gethostname()}-"


def _is_alive(process: int) -> bool:
    if process == os.getpid():  # a number that came round: this process has written nothing yet
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_file(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe that nobody writes to would hold the run for ever
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
    except ValueError as error:  # pyarrow's word for a scheme it does not know, too
        raise OSError(f"{source} cannot be read: {error}") from error
    return data
