"""The ShapeCache: what was prepared for shapes seen before, within a budget of bytes."""

from collections import OrderedDict
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")
Shape = tuple[int, ...]

# Shapes that are only counted cost next to nothing, but photos come in every size.
MOST_COUNTED_SHAPES = 4096


class ShapeCache(Generic[Prepared]):
    """Keeps one value a shape, each with its size in bytes; what was used longest ago goes first.

    Preparing costs more than a run, so it is due only for a shape that comes again: on the run after `runs_before`.
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
        """Bytes of everything that is kept."""
        return sum(size for _, size in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, shape: Shape) -> Prepared | None:
        """Return what was prepared for the shape, which counts as its use."""
        entry = self._entries.get(shape)
        if entry is None:
            return None
        self._entries.move_to_end(shape)
        return entry[0]

    def is_due(self, shape: Shape) -> bool:
        """Count a run of a shape that has nothing prepared; whether to prepare it now."""
        if not self.max_bytes or shape in self._refused:
            return False
        if len(self._runs) >= MOST_COUNTED_SHAPES:
            self._runs.clear()
        self._runs[shape] = self._runs.get(shape, 0) + 1
        return self._runs[shape] > self.runs_before

    def refuse(self, shape: Shape) -> None:
        """Prepare nothing for the shape any more."""
        self._refused.add(shape)

    def put(self, shape: Shape, prepared: Prepared, size: int) -> list[Prepared]:
        """Keep a value of `size` bytes; return what had to go for it: the value itself where it can never fit."""
        if size > self.max_bytes:
            self.refuse(shape)
            return [prepared]
        gone = self.make_room(size)
        self._entries[shape] = (prepared, size)
        return gone

    def make_room(self, size: int) -> list[Prepared]:
        """Remove and return what was used longest ago, until `size` more bytes fit; nothing if they never would."""
        gone: list[Prepared] = []
        if size > self.max_bytes:
            return gone
        while self._entries and (self.bytes + size > self.max_bytes or len(self._entries) >= self.max_entries):
            shape, (prepared, _) = self._entries.popitem(last=False)
            self._runs.pop(shape, None)
            gone.append(prepared)
        return gone

    def clear(self) -> list[Prepared]:
        """Remove and return everything; refused shapes stay refused."""
        gone = [prepared for prepared, _ in self._entries.values()]
        self._entries.clear()
        self._runs.clear()
        return gone
