"""Zip archives of photos: hostile ones are refused on reading, and results are written as a stream."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from server.errors import ImageTooLarge, InvalidRequest
from server.jobs.record import Problem

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip archive begins: with its first entry, or with its end if it is empty."""
MEDIA_TYPE = "application/zip"
ERRORS = "errors.json"
MOST_PHOTOS = 256
"""Photos of one batch, and entries of an archive, folders included."""

_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # APPNOTE 4.4.4: traditional, strong, and a masked directory
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What the library raises for damaged archives.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, OverflowError, NotImplementedError,
    RuntimeError, OSError, EOFError,
)  # fmt: skip
_JUNK = re.compile(r"(^|/)(\.|__MACOSX/|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')
_LONGEST_PART = 100
_LONGEST_PART_BYTES = 200  # file systems allow 255, and a number and a suffix follow
_MOST_PARTS = 8
_FIRST_YEAR = (1980, 1, 1, 0, 0, 0)  # the zero of the format: results have no time of their own


@dataclass(frozen=True, slots=True)
class ArchivedPhoto:
    """One file of an archive."""

    filename: str
    data: bytes


class ArchiveReader:
    """Reads the files of a zip archive that arrived as a whole.

    The directory is checked before anything is inflated. Refused are archives with more than `MOST_PHOTOS` entries,
    more than `max_bytes` inflated, encryption, methods other than store and deflate, names that lead out of a folder,
    and archives inside. Raises InvalidRequest and ImageTooLarge.
    """

    def __init__(self, data: bytes, max_bytes: int) -> None:
        # The library reads every entry it finds, so they are counted before it: each has this signature.
        if data.count(_ENTRY) > MOST_PHOTOS:
            raise InvalidRequest(f"The archive has more than {MOST_PHOTOS} entries.", max_photos=MOST_PHOTOS)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            entries = self._archive.infolist()
        except _UNREADABLE as error:
            raise InvalidRequest(f"The zip archive cannot be read, it is cut off or damaged: {error}.") from None
        if len({entry.header_offset for entry in entries}) < len(entries):
            raise InvalidRequest("The entries of the archive overlap.")
        for entry in entries:
            _check(entry)
        self._entries = [entry for entry in entries if not entry.is_dir() and not _is_junk(entry.filename)]
        if not self._entries:
            raise InvalidRequest("The archive has no photo in it.")
        self.inflated_bytes = sum(entry.file_size for entry in self._entries)
        """Bytes of all files, as the directory says; no file gives more."""
        if self.inflated_bytes > max_bytes:
            raise ImageTooLarge(
                f"The files of the archive have {self.inflated_bytes} bytes together; the limit is {max_bytes}.",
                max_upload_bytes=max_bytes,
            )

    def read(self) -> list[ArchivedPhoto]:
        """Inflate all files; raises InvalidRequest if one is damaged or an archive itself."""
        return [ArchivedPhoto(entry.filename, self._inflate(entry)) for entry in self._entries]

    def _inflate(self, entry: zipfile.ZipInfo) -> bytes:
        try:
            with self._archive.open(entry) as file:
                data = file.read(entry.file_size)
                if len(data) != entry.file_size or file.read(1):
                    raise zipfile.BadZipFile("its size is not the one that is stated")
        except _UNREADABLE as error:
            raise InvalidRequest(f"The file {_shown(entry)} of the archive cannot be read: {error}.") from None
        if data.startswith(MAGIC):
            raise InvalidRequest(f"{_shown(entry)} is an archive inside the archive, which is not accepted.")
        return data


def _check(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.replace("\\", "/").split("/")
    if not name:
        raise InvalidRequest("A file of the archive has no name.")
    # `orig_filename` has what follows a NUL, which the library cuts off.
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in entry.orig_filename:
        raise InvalidRequest(f"The name {_shown(entry)} in the archive leads out of its folder.")
    if len(parts) > _MOST_PARTS:
        raise InvalidRequest(f"The name {_shown(entry)} in the archive has more than {_MOST_PARTS} parts.")
    if entry.flag_bits & _ENCRYPTED:
        raise InvalidRequest("The archive is encrypted, which is not accepted.")
    if entry.compress_type not in _METHODS:
        raise InvalidRequest(f"{_shown(entry)} is compressed by a method other than store and deflate.")


def _is_junk(name: str) -> bool:
    """Return whether a file is hidden, or one that an operating system adds to archives."""
    return _JUNK.search("/".join(part for part in name.split("/") if part not in ("", "."))) is not None


def _shown(entry: zipfile.ZipInfo) -> str:
    return repr(entry.orig_filename[:_LONGEST_PART])


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo that is missing in an archive of results, and why."""

    filename: str | None
    state: str
    problem: Problem | None


class ArchiveWriter:
    """Writes an archive piece by piece; each method returns the bytes to send next.

    The files are images and stored as they are. `close` it, also if it was not finished.
    """

    def __init__(self) -> None:
        self._pieces = _Pieces()
        self._archive = zipfile.ZipFile(self._pieces, "w", zipfile.ZIP_STORED)
        self._entry: IO[bytes] | None = None

    def begin(self, name: str, size: int) -> bytes:
        """Begin a file of `size` bytes."""
        info = zipfile.ZipInfo(name, _FIRST_YEAR)
        info.file_size = size
        self._entry = self._archive.open(info, "w")
        return self._pieces.take()

    def write(self, data: bytes) -> bytes:
        """Add to the file."""
        if self._entry is None:
            raise RuntimeError("no file was begun")
        self._entry.write(data)
        return self._pieces.take()

    def end(self) -> bytes:
        """End the file."""
        if self._entry is not None:
            self._entry.close()
            self._entry = None
        return self._pieces.take()

    def finish(self, failures: Sequence[Failure]) -> bytes:
        """Write the list of failures, if there are any, and the end of the archive."""
        if failures:
            listed = [{"filename": f.filename, "state": f.state, "problem": f.problem} for f in failures]
            self._archive.writestr(zipfile.ZipInfo(ERRORS, _FIRST_YEAR), json.dumps(listed, indent=1))
        self._archive.close()
        return self._pieces.take()

    def close(self) -> None:
        """Close an archive that may be unfinished; nothing more is sent."""
        self.end()
        self._archive.close()


class _Pieces(io.RawIOBase):
    """Collects what is written until it is taken; it cannot seek, so the archive is written front to back."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written


class Names:
    """Gives each result of a batch a name of its own that is safe on every system."""

    def __init__(self) -> None:
        self._taken: set[str] = {ERRORS}
        self._folders: set[str] = set()

    def of(self, filename: str | None, suffix: str) -> str:
        """Return the name of a result: that of the upload, folders included, with another suffix."""
        parts = [_UNSAFE.sub("_", part).strip(". ") for part in (filename or "").replace("\\", "/").split("/")]
        parts = [_short(part) for part in parts if part][-_MOST_PARTS:] or ["photo"]
        stem = PurePosixPath(*parts[:-1], PurePosixPath(parts[-1]).stem or "photo").as_posix()
        if not self._taken.isdisjoint(_folders_of(stem)):  # a result cannot be a file and a folder
            stem = stem.replace("/", "_")
        name, number = f"{stem}{suffix}", 1
        while name.lower() in self._taken | self._folders:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.lower())
        self._folders.update(_folders_of(name))
        return name


def _short(part: str) -> str:
    """Cut a name between two characters, and replace what UTF-8 cannot encode."""
    return part[:_LONGEST_PART].encode("utf-8", "replace")[:_LONGEST_PART_BYTES].decode("utf-8", "ignore")


def _folders_of(name: str) -> list[str]:
    return [folder.as_posix() for folder in PurePosixPath(name.lower()).parents[:-1]]
