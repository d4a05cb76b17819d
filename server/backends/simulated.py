"""The simulated backend: an identity that takes a known time."""

import threading
import time

from server.backends.base import BackendInfo, Pixels
from server.errors import BackendError

SIZE_MULTIPLE = 8


class SimulatedBackend:
    """Behaves like a device: one run at a time, a duration by the pixels of the batch, a largest batch.

    A run takes base_ms + ms_per_megapixel * N * H * W / 1e6 milliseconds of wall time and answers with a copy.
    """

    def __init__(self, base_ms: float, ms_per_megapixel: float, max_batch: int) -> None:
        self._base_ms = base_ms
        self._ms_per_megapixel = ms_per_megapixel
        self._max_batch = max_batch
        self._device = threading.Lock()

    def start(self) -> BackendInfo:
        return BackendInfo(
            backend="simulated",
            device="simulated",
            artifact="identity",
            precision="fp32",
            size_multiple=SIZE_MULTIPLE,
            max_batch=self._max_batch,
        )

    def run(self, batch: Pixels) -> Pixels:
        """Return a copy of (N, 3, H, W); BackendError for what a real device would refuse."""
        began = time.perf_counter()
        if batch.ndim != 4 or batch.shape[1] != 3 or batch.shape[2] % SIZE_MULTIPLE or batch.shape[3] % SIZE_MULTIPLE:
            raise BackendError(f"a batch is (N, 3, H, W) with sides of multiples of {SIZE_MULTIPLE}, not {batch.shape}")
        if len(batch) > self._max_batch:
            raise BackendError(f"a batch of {len(batch)} exceeds the largest batch of {self._max_batch}")
        if not self._device.acquire(blocking=False):
            raise BackendError("a second run began while one was running")
        try:
            output = batch.copy()
            remaining_s = began + self.duration_s(batch.shape) - time.perf_counter()
            if remaining_s > 0:
                time.sleep(remaining_s)
        finally:
            self._device.release()
        return output

    def duration_s(self, shape: tuple[int, ...]) -> float:
        """Seconds that a run of (N, 3, H, W) takes."""
        megapixels = shape[0] * shape[2] * shape[3] / 1e6
        return (self._base_ms + self._ms_per_megapixel * megapixels) / 1e3

    def stop(self) -> None:
        pass
