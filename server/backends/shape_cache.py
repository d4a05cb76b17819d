"""ShapeCache: values prepared for shapes seen before, within a budget of bytes."""

from collections import OrderedDict
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")
Shape = tuple[int, ...]

# Counting a shape costs little, but photos come in every size.
MOST_COUNTED_SHAPES = 4096


class ShapeCache(Generic[Prepared]):
    """Keeps one value for each shape, with its size in bytes; evicts the least recently used first.

    Preparing costs more than a run, so it is due only for a shape that repeats: on the run after `runs_before`.
    """

    def __init__(self, max_bytes: int, max_entries: int, runs_before: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.runs_before = runs_before
        self._entries: OrderedDict[Shape, tuple[Prepared, int]] = OrderedDict()
        self._runs: dict[Shape, int] = {}
        self._refused: set[Shape] = set()

    @property
    def bytes(self) -> int:
        """The total size of the kept values."""
        return sum(size for _, size in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, shape: Shape) -> Prepared | None:
        """Return the value of the shape, if there is one, and mark it as used."""
        entry = self._entries.get(shape)
        if entry is None:
            return None
        self._entries.move_to_end(shape)
        return entry[0]

    def is_due(self, shape: Shape) -> bool:
        """Count a run of a shape without a value, and tell whether to prepare one now."""
        if not self.max_bytes or shape in self._refused:
            return False
        if len(self._runs) >= MOST_COUNTED_SHAPES:
            self._runs.clear()
        self._runs[shape] = self._runs.get(shape, 0) + 1
        return self._runs[shape] > self.runs_before

    def refuse(self, shape: Shape) -> None:
        """Never prepare a value for the shape again."""
        self._refused.add(shape)

    def put(self, shape: Shape, prepared: Prepared, size: int) -> list[Prepared]:
        """Keep a value of `size` bytes; return the evicted values, or the value itself if it can never fit."""
        if size > self.max_bytes:
            self.refuse(shape)
            return [prepared]
        gone = self.make_room(size)
        self._entries[shape] = (prepared, size)
        return gone

    def make_room(self, size: int) -> list[Prepared]:
        """Evict least recently used values until `size` more bytes fit, and return them; none if that cannot help."""
        gone: list[Prepared] = []
        if size > self.max_bytes:
            return gone
        while self._entries and (self.bytes + size > self.max_bytes or len(self._entries) >= self.max_entries):
            shape, (prepared, _) = self._entries.popitem(last=False)
            self._runs.pop(shape, None)
            gone.append(prepared)
        return gone

    def clear(self) -> list[Prepared]:
        """Remove and return all values; refused shapes stay refused."""
        gone = [prepared for prepared, _ in self._entries.values()]
        self._entries.clear()
        self._runs.clear()
        return gone
