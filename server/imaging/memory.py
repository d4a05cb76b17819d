"""Memory: room for decoded images, and the answer where the machine has none left."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from server.errors import MemoryShort, QueueFull

# Beside its samples a decoder holds the file, and a band of them; a lossy encoder holds them interleaved.
_COPIES = 3
_WORKSPACE_BYTES = 64 * 2**20
_NO_MEMORY = -4  # OpenCV's StsNoMem
_RETRY_AFTER_S = 1.0
# The largest image there is, of 50 megapixels in 16 bits with alpha, takes 400 MB.
_ROOM_BYTES = 512 * 2**20
# The bound on the pixels of what waits is enough for smaller ones.
_LARGE_BYTES = 8 * 2**20


@contextmanager
def blaming_memory(samples_bytes: int | None = None) -> Iterator[None]:
    """Raise MemoryShort where work failed for want of it; other errors pass.

    Some libraries say of a file that they cannot read it when they have no memory. So where work on an image of
    `samples_bytes` fails, and there is no room for what it needs, the file is not to blame.
    """
    try:
        yield
    except MemoryShort:
        raise
    except Exception as error:
        if _is_of_memory(error) or not _is_free(samples_bytes):
            raise MemoryShort(
                "The server has too little memory free for this image: try again later, or send a smaller one."
            ) from error
        raise


class DecodedRoom:
    """Counts the bytes of the images that are decoded at a time, so that a few large ones do not fill the memory.

    An image that comes alone is taken however large it is: the limits on pixels bound it. For one event loop.
    """

    def __init__(self, max_bytes: int = _ROOM_BYTES) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    @contextmanager
    def take(self, samples_bytes: int) -> Iterator[None]:
        """Hold the room of an image; raises QueueFull while others leave too little for a large one."""
        if self.held_bytes and samples_bytes > _LARGE_BYTES and self.held_bytes + samples_bytes > self._max_bytes:
            raise QueueFull(
                f"The images that are being restored take {self.held_bytes} bytes decoded, and this one "
                f"{samples_bytes}; together they may take {self._max_bytes}.",
                _RETRY_AFTER_S,
            )
        self.held_bytes += samples_bytes
        try:
            yield
        finally:
            self.held_bytes -= samples_bytes


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
