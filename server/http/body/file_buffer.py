"""The FileBuffer: collects an upload while it arrives."""

from collections.abc import Callable
from io import SEEK_END, BytesIO

from server.restore.allocator import MAPPED_BYTES

Look = Callable[[bytes], bool]
"""Called with the first bytes of the file: raises to refuse it, or returns whether it has seen enough."""

# A photo states its size within its first kilobytes, unless a long profile or preview comes before.
_LAST_LOOK_BYTES = 256 * 1024

# A longer file grows in a block, which the system moves without a copy. So does one in many pieces, each of which takes
# up more than its bytes.
_MOST_PIECES_BYTES, _MOST_PIECES = MAPPED_BYTES, 512


class FileBuffer:
    """Collects a file, and passes its beginning to `look`: at once, and again whenever it has doubled.

    Pieces are joined by one copy, from 1 MB on without the interpreter lock; a block that grows by an eighth at a time
    is copied nine times. A large block is moved instead of copied, and is the only copy of the file.
    """

    def __init__(self, look: Look) -> None:
        self.size = 0
        self._look = look
        self._next_bytes = 1
        self._pieces: list[bytes] = []
        """The file while it is small."""
        self._block: BytesIO | None = None

    def add(self, piece: bytes | memoryview) -> None:
        """Append a piece; raises as `look`."""
        if not piece:
            return
        if self._block is not None:
            self._block.write(piece)
        else:
            self._pieces.append(bytes(piece))
            if self.size + len(piece) > _MOST_PIECES_BYTES or len(self._pieces) == _MOST_PIECES:
                self._block = BytesIO(self._joined())
                self._block.seek(0, SEEK_END)
                self._pieces.clear()
        self.size += len(piece)
        if 0 < self._next_bytes <= self.size:
            enough = self._look(self._start())
            self._next_bytes = 0 if enough or self.size >= _LAST_LOOK_BYTES else 2 * self.size

    def take(self) -> bytes:
        """Return the whole file, and keep no reference to it."""
        data = self._joined() if self._block is None else self._block.getvalue()  # its own buffer, not a copy
        self._pieces, self._block = [], None
        return data

    def _start(self) -> bytes:
        if self._block is None:
            return self._joined()
        with self._block.getbuffer() as block:
            return bytes(block)

    def _joined(self) -> bytes:
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""
