"""What a server leaves to the garbage collector between SIGUSR1 and SIGUSR2, as a line of its log."""

import gc
import logging
import signal
from collections import Counter

import numpy as np

LARGE_BYTES = 4096
REPORT = "garbage"


def watch() -> None:
    """Answer the two signals from now on."""
    signal.signal(signal.SIGUSR1, lambda *_: _begin())
    signal.signal(signal.SIGUSR2, lambda *_: _report())


def _begin() -> None:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)


def _report() -> None:
    gc.collect()
    gc.set_debug(0)
    large = Counter(
        type(one).__name__ for one in gc.garbage for held in (one, *gc.get_referents(one)) if _is_large(held)
    )
    logging.getLogger(__name__).warning(REPORT, extra={"large": dict(large)})
    gc.garbage.clear()


def _is_large(held: object) -> bool:
    if isinstance(held, np.ndarray | memoryview):
        return held.nbytes >= LARGE_BYTES
    return isinstance(held, bytes | bytearray) and len(held) >= LARGE_BYTES
