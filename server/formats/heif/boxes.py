"""Boxes: the elements of an ISO base media file (ISO/IEC 14496-12, section 4.2)."""

from collections.abc import Iterator
from typing import NamedTuple

_HEADER, _LONG_HEADER = 8, 16
_TO_THE_END, _IS_LONG = 0, 1


class BrokenBoxError(ValueError):
    """A box is cut off or contradicts itself."""


class Box(NamedTuple):
    """The type of a box, and the offsets of its start, its body and its end."""

    kind: bytes
    start: int
    body: int
    end: int


def shown(kind: bytes) -> str:
    """Return the type of a box as text for a message."""
    return ascii(kind.decode("latin-1"))


def boxes(data: bytes, start: int, end: int, limit: int, *, may_be_cut: bool = False) -> Iterator[Box]:
    """Yield the boxes between two offsets; raises BrokenBoxError for more than `limit`, or one that exceeds `end`.

    With `may_be_cut` the iteration ends at a truncated or invalid box, since other data may follow the picture.
    """
    for _ in range(limit):
        if end - start < _HEADER:
            return
        size, kind, body = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], start + _HEADER
        if size == _IS_LONG:
            size, body = int.from_bytes(data[body : body + 8], "big"), start + _LONG_HEADER
        last = end if size == _TO_THE_END else start + size
        if not body <= last <= end:
            if may_be_cut and last > end:
                yield Box(kind, start, body, end)
            if may_be_cut:
                return
            raise BrokenBoxError(f"a box {shown(kind)} is cut off")
        yield Box(kind, start, body, last)
        start = last
    if end - start >= _HEADER:
        raise BrokenBoxError(f"a box contains more than {limit} boxes")


class Fields:
    """Reads big-endian fields in sequence; raises BrokenBoxError at the end of their box."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self.at = start
        self._end = end

    def take(self, count: int) -> bytes:
        """Read `count` bytes."""
        if self.at + count > self._end:
            raise BrokenBoxError("a box is shorter than its content")
        self.at += count
        return self._data[self.at - count : self.at]

    def integer(self, count: int) -> int:
        """Read an unsigned integer of `count` bytes."""
        return int.from_bytes(self.take(count), "big")

    def text(self) -> bytes:
        """Read bytes up to a zero, which is skipped, or to the end of the box."""
        end = self._data.find(b"\0", self.at, self._end)
        found = self._data[self.at : self._end if end < 0 else end]
        self.at = self._end if end < 0 else end + 1
        return found
