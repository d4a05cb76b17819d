"""Shared memory: segments in which the processes of a server hand pixels to each other."""

import os
import secrets
import threading
import weakref
from collections import deque
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

FILES = Path("/dev/shm")  # noqa: S108 - where Linux keeps segments; the names are random
NAME = "promptir-{pid}-"
"""How the names of a process's segments begin, so that whatever is left there can be told from other programs'."""
MAX_BYTES = 2**30
"""The most that all segments take."""
KEPT_BYTES = 128 * 2**20
"""Unused segments take at most this, or as much as those in use: to make a new one costs as much as to decode."""
MAPPED_BYTES = 2 * MAX_BYTES
"""The most that another process has mapped; what was removed meanwhile is freed with its next new segment."""
_STEP_BYTES = 2**20
# A kept segment of more than this many times the bytes that are needed stays for larger images.
_WASTE = 2

_in_use_lock = threading.Lock()
_in_use: list["Segment"] = []
"""Segments that had views when they were to be closed; dropped, they would leave their files open."""


class Segment(SharedMemory):
    """Shared memory that ends in silence with its process, whatever still views it."""

    @property
    def file(self) -> int | None:
        """The descriptor of its file, which is open as long as there are views; None outside of POSIX."""
        file: int = getattr(self, "_fd", -1)
        return file if file >= 0 else None

    def __del__(self) -> None:
        try:  # noqa: SIM105 - `suppress` may have ended before
            super().__del__()
        except BufferError:  # at the end of the interpreter, which unmaps it all
            pass


class Lease:
    """A segment in use: its name and its bytes.

    It is free for the next image when the last view of `data` is gone, not earlier: a run or an encoder that continues
    after its request was cancelled still reads its own pixels.
    """

    def __init__(self, name: str, data: Bytes, file: int | None = None) -> None:
        self.name = name
        self.data = data
        self._file = file

    def read(self, start: int, size: int) -> bytes:
        """Return a copy of some of the bytes, made without the interpreter lock where a segment is a file."""
        if self._file is not None:
            with suppress(OSError):  # macOS reads no segments
                data = os.pread(self._file, size, start)
                if len(data) == size:
                    return data
        return self.data[start : start + size].tobytes()


class SegmentPool:
    """Lends segments and keeps some for the next images; safe to use from any thread."""

    def __init__(self, max_bytes: int = MAX_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._free: list[Segment] = []  # the last is the most recently used
        self._returned: deque[Segment] = deque()  # filled by finalizers, which may run anywhere, so without a lock
        self._all: dict[str, Segment] = {}
        self._bytes = 0
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """The bytes of all segments, those that are kept included."""
        return self._bytes

    def lend(self, size: int) -> Lease | None:
        """Lend a segment of at least `size` bytes; None if there is no room, in `MAX_BYTES` or in /dev/shm."""
        with self._lock:
            self._take_back()
            segment = self._kept(size) or self._new(-(-size // _STEP_BYTES) * _STEP_BYTES)
        if segment is None:
            return None
        data = view_of(segment)
        weakref.finalize(data, self._returned.append, segment).atexit = False
        return Lease(segment.name, data, segment.file)

    def give_up(self, name: str) -> None:
        """Remove a segment in use, because another process may write to it after its last view here is gone."""
        with self._lock:
            if (segment := self._all.get(name)) is not None:
                self._remove(segment)

    def close(self) -> None:
        """Remove all segments from the system; those in use keep their memory until their last view is gone."""
        with self._lock:
            self._closed = True
            for segment in [*self._all.values()]:
                self._remove(segment)
        _close_later([])

    def _take_back(self) -> None:
        while self._returned:
            if (segment := self._returned.popleft()).name in self._all:
                self._free.append(segment)
        kept = sum(segment.size for segment in self._free)
        while self._free and kept > max(self._kept_bytes, self._bytes - kept):
            kept -= self._free[0].size
            self._remove(self._free.pop(0))

    def _kept(self, size: int) -> Segment | None:
        fitting = [segment for segment in self._free if size <= segment.size <= _WASTE * max(size, _STEP_BYTES)]
        if not fitting:
            return None
        self._free.remove(fitting[-1])
        return fitting[-1]

    def _new(self, size: int) -> Segment | None:
        while self._free and self._bytes + size > self._max_bytes:
            self._remove(self._free.pop(0))
        if self._closed or self._bytes + size > self._max_bytes:
            return None
        try:
            name = NAME.format(pid=os.getpid()) + secrets.token_hex(4)
            segment = Segment(name, create=True, size=size)
        except OSError:
            return None
        self._bytes += segment.size
        self._all[segment.name] = segment
        try:
            _reserve(segment)
        except OSError:
            self._remove(segment)
            return None
        return segment

    def _remove(self, segment: Segment) -> None:
        self._bytes -= segment.size
        del self._all[segment.name]
        with suppress(FileNotFoundError):
            segment.unlink()
        _close_later([segment])


class Attachments:
    """The segments of another process that this one has open; to map one anew costs a millisecond."""

    def __init__(self, mapped_bytes: int = MAPPED_BYTES) -> None:
        self._mapped_bytes = mapped_bytes
        self._open: dict[str, Segment] = {}  # the least recently used first
        self._in_use: list[Segment] = []

    def view(self, name: str) -> Bytes:
        """Return the bytes of a segment; raises FileNotFoundError if it was removed."""
        segment = self._open.pop(name, None)
        if segment is None:
            segment = Segment(name)
            self._make_room(segment.size)
        self._open[name] = segment
        return view_of(segment)

    def close(self) -> None:
        """Close all segments; those that are still in use stay open until a later call."""
        _close_later([*self._open.values(), *self._in_use])
        self._open, self._in_use = {}, []

    def _make_room(self, size: int) -> None:
        held = size + sum(segment.size for segment in self._open.values())
        for name, segment in [*self._open.items()]:
            if held > self._mapped_bytes or (FILES.is_dir() and not (FILES / name).exists()):
                self._in_use.append(self._open.pop(name))
                held -= segment.size
        self._in_use = [segment for segment in self._in_use if not _is_closed(segment)]


def remove_segments_of(pid: int) -> None:
    """Remove the segments of a child process that has ended without removing them."""
    for file in FILES.glob(f"{NAME.format(pid=pid)}*"):
        with suppress(FileNotFoundError):
            file.unlink()
        resource_tracker.unregister(f"/{file.name}", "shared_memory")  # shared with the child; it would complain


def view_of(segment: Segment) -> Bytes:
    """Return the bytes of a segment, which cannot be closed as long as there is a view of them.

    `np.ndarray(buffer=...)` would not keep it open: a segment closed too early ends the process.
    """
    if segment.buf is None:
        raise ValueError("the segment is closed")
    return np.frombuffer(segment.buf, np.uint8)


def _is_closed(segment: Segment) -> bool:
    try:
        segment.close()
    except BufferError:
        return False
    return True


def _close_later(segments: list[Segment]) -> None:
    """Close segments, and those of earlier calls, once they have no views."""
    with _in_use_lock:
        _in_use[:] = [segment for segment in [*_in_use, *segments] if not _is_closed(segment)]


def _reserve(segment: Segment) -> None:
    # Memory is reserved here, where a full /dev/shm is an error: later it would be a SIGBUS.
    if segment.file is not None and FILES.is_dir():
        os.posix_fallocate(segment.file, 0, segment.size)
