"""File buffer: the bytes of one file while they arrive, in one block of memory."""

from collections.abc import Callable
from io import BytesIO

Look = Callable[[bytes], bool]
"""Is shown the first bytes of the file; refuses it by raising, or says whether it has seen enough."""

# A photo says its size within its first kilobytes, unless a long profile or preview stands before it.
_LAST_LOOK_BYTES = 256 * 1024


class FileBuffer:
    """Gathers a file, and shows its beginning to `look`: at once, and whenever twice as much is there.

    Pieces in a list would be joined by a copy, and leave their holes in the heap: a block grows in place, and goes back
    to the system as a whole.
    """

    def __init__(self, look: Look) -> None:
        self.size = 0
        self._look = look
        self._next_bytes = 1
        self._only = b""
        """The file while it came in one piece, as small ones do: nothing is copied."""
        self._block: BytesIO | None = None

    def add(self, piece: bytes | memoryview) -> None:
        """Append a piece; raises what `look` raises."""
        if not piece:
            return
        if self.size == 0:
            self._only = bytes(piece)
        else:
            if self._block is None:
                self._block = BytesIO(self._only)
                self._block.seek(self.size)
                self._only = b""
            self._block.write(piece)
        self.size += len(piece)
        if 0 < self._next_bytes <= self.size:
            enough = self._look(self._start())
            self._next_bytes = 0 if enough or self.size >= _LAST_LOOK_BYTES else 2 * self.size

    def take(self) -> bytes:
        """The whole file; it is held by the caller alone from then on."""
        data = self._only if self._block is None else self._block.getvalue()  # its own buffer, not a copy
        self._only, self._block = b"", None
        return data

    def _start(self) -> bytes:
        if self._block is None:
            return self._only
        with self._block.getbuffer() as block:
            return bytes(block[: self.size])
