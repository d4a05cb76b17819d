"""Memory and errors: detection of those caused by lack of memory, and release of what others hold."""

import threading
from types import TracebackType

from pydantic_core import from_json

NO_MEMORY = "The server has no memory left for this request: retry later."


def reserve_string_cache() -> None:
    """Make pydantic allocate its cache of JSON strings early, because it ends the process if that fails later.

    The cache takes 256 KB with the first JSON that holds a string of 2 to 63 bytes.
    """
    from_json('"ab"')


def is_memory_short(error: BaseException | None) -> bool:
    """Return whether an exception, or one in its chain, reports a failed allocation."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _failed_start(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False


def drop_frames(error: BaseException | None) -> None:
    """Detach the frames of an error and of its causes, among whose variables is the whole upload.

    The error may be part of a reference cycle: a future has it, and the frame that waited has the future. The garbage
    collector finds those late, for it counts objects, not bytes. The frames are not cleared: they may be those of
    several requests that share an error, and some of them may still run.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _failed_start(frames: TracebackType | None) -> bool:
    # A thread that cannot start raises a plain RuntimeError, identified only by the frame that raised it.
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_code is threading.Thread.start.__code__
