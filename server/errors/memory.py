"""Memory short: how the want of memory shows, which is nobody's fault and passes."""

import threading
from types import TracebackType

NO_MEMORY = "The server has no memory left for this request: send it again later."


def is_memory_short(error: BaseException | None) -> bool:
    """Whether an exception, or the one that it came of, is for want of memory: of an object, or of a thread's stack."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_of_a_start(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_a_start(frames: TracebackType | None) -> bool:
    # A thread that cannot be started is a plain RuntimeError, which is known by where it was raised.
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_code is threading.Thread.start.__code__
