"""Memory limits of decoded images, and detection of allocation failures."""

from types import TracebackType

import cv2
import numpy as np

from server.errors import MemoryShort, QueueFull

# In addition to the samples, decoders hold the file and a band of rows, and lossy encoders hold interleaved samples.
_COPIES = 3
_WORKSPACE_BYTES = 64 * 2**20
_NO_MEMORY = -4  # OpenCV's StsNoMem
_RETRY_AFTER_S = 1.0
# The largest image, 50 megapixels of 16 bits with alpha, takes 400 MB.
_ROOM_BYTES = 512 * 2**20
# For smaller images the bound on queued pixels suffices.
_LARGE_BYTES = 8 * 2**20


class blaming_memory:  # noqa: N801 - used as a function; a generator would take four times as long
    """Raise MemoryShort if the block fails for lack of memory; other errors pass through.

    Some libraries report an unreadable file when they cannot allocate memory. So any error in work on an image of
    `samples_bytes` also counts as lack of memory if the memory for such work cannot be allocated afterwards.
    """

    __slots__ = ("_samples_bytes",)

    def __init__(self, samples_bytes: int | None = None) -> None:
        self._samples_bytes = samples_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, MemoryShort):
            return
        if _is_of_memory(error) or not _is_free(self._samples_bytes):
            raise MemoryShort(
                "The server has too little memory free for this image: try again later, or send a smaller one."
            ) from error


class DecodedRoom:
    """Bounds the total bytes of all images in decoded form, so that large images do not exhaust memory.

    A single image is always accepted, since the pixel limits bound its size. Not thread-safe: for one event loop.
    """

    def __init__(self, max_bytes: int = _ROOM_BYTES) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def take(self, samples_bytes: int) -> "_DecodedImage":
        """Reserve memory for an image during a block, whose entry raises as `check`."""
        return _DecodedImage(self, samples_bytes)

    def check(self, samples_bytes: int) -> None:
        """Raise QueueFull for a large image while others leave too little memory."""
        if self.held_bytes and samples_bytes > _LARGE_BYTES and self.held_bytes + samples_bytes > self._max_bytes:
            raise QueueFull(
                f"The decoded images in progress take {self.held_bytes} bytes and this one would take {samples_bytes}; "
                f"the limit for all is {self._max_bytes}.",
                _RETRY_AFTER_S,
            )


class _DecodedImage:
    """The memory of one decoded image, held from entry to exit."""

    __slots__ = ("_room", "_samples_bytes")

    def __init__(self, room: DecodedRoom, samples_bytes: int) -> None:
        self._room = room
        self._samples_bytes = samples_bytes

    def __enter__(self) -> None:
        self._room.check(self._samples_bytes)
        self._room.held_bytes += self._samples_bytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._room.held_bytes -= self._samples_bytes


def _is_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == _NO_MEMORY):
            return True
        error = error.__cause__
    return False


def _is_free(samples_bytes: int | None) -> bool:
    if samples_bytes is None:
        return True
    try:
        np.empty(_COPIES * samples_bytes + _WORKSPACE_BYTES, np.uint8)
    except MemoryError:
        return False
    return True
