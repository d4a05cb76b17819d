"""The FileBuffer: collects an upload in one block of memory while it arrives."""

from collections.abc import Callable
from io import BytesIO

Look = Callable[[bytes], bool]
"""Called with the first bytes of the file: raises to refuse it, or returns whether it has seen enough."""

# A photo states its size within its first kilobytes, unless a long profile or preview comes before.
_LAST_LOOK_BYTES = 256 * 1024


class FileBuffer:
    """Collects a file, and passes its beginning to `look`: at once, and again whenever it has doubled.

    A list of pieces would be joined by a copy, and would leave holes in the heap: a block grows in place and returns to
    the system as a whole.
    """

    def __init__(self, look: Look) -> None:
        self.size = 0
        self._look = look
        self._next_bytes = 1
        self._only = b""
        """The file as long as it is one piece, as small ones are: nothing is copied."""
        self._block: BytesIO | None = None

    def add(self, piece: bytes | memoryview) -> None:
        """Append a piece; raises as `look`."""
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
        """Return the whole file, and keep no reference to it."""
        data = self._only if self._block is None else self._block.getvalue()  # its own buffer, not a copy
        self._only, self._block = b"", None
        return data

    def _start(self) -> bytes:
        if self._block is None:
            return self._only
        with self._block.getbuffer() as block:
            return bytes(block[: self.size])
