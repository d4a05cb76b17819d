"""The Backend protocol: an array in, an array out, blocking."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32 RGB in [0, 1]: (3, H, W) for one tile, (N, 3, H, W) for a batch."""
PromptWeights = NDArray[np.float32]
"""What the model found: (rows, columns) for one tile, (N, rows, columns) for a batch.

Rows are the prompt weights of each level, from coarse to fine, and then the probabilities of degradations.
"""

Sizes = NDArray[np.int64]
"""(N, 2): the height and width of each image of a batch whose images are smaller than its arrays."""


@dataclass(frozen=True)
class BackendInfo:
    """What a started backend says about itself."""

    backend: str
    device: str
    artifact: str
    precision: str
    size_multiple: int
    max_batch: int
    can_repeat_in_fp32: bool = False
    """Whether the backend is a `RepeatingBackend` now: it runs below FP32 and holds the FP32 network as well."""
    can_begin_ahead: bool = False
    """Whether the backend is a `PipelinedBackend`."""
    can_mask: bool = False
    """Whether the backend is a `MaskingBackend`; if `can_begin_ahead` too, a `PipelinedMaskingBackend`."""
    model_hash: str = ""
    """SHA-256 of the model file: what tells two artifacts of one name apart."""
    prompt_shape: tuple[int, int] | None = None
    """(rows, columns) of what the model found in an image (see `PromptOutput`); None where it does not tell."""
    degradation_labels: tuple[str, ...] = ()
    """What the last of those rows has the probabilities of; empty for a model that names no degradations."""


class Backend(Protocol):
    """One runtime on one device.

    It is used from one thread only, which calls `start`, then `run` any number of times, then `stop`. There is no
    asyncio, HTTP or queue inside.
    """

    def start(self) -> BackendInfo:
        """Load everything a run needs.

        Raises BackendUnavailable with a sentence that says what to do; nothing stays loaded then.
        """
        ...

    def run(self, batch: Pixels, weights: PromptWeights | None = None) -> Pixels:
        """Restore (N, 3, H, W) into a fresh array of the same shape; H and W are multiples of `size_multiple`.

        `weights` (N, *prompt_shape), where it is given, is filled in by the time of the answer.

        Raises DeviceOutOfMemory where a smaller batch may fit, UnsupportedSize where no batch of such images does,
        BackendError for all else; the backend stays usable afterwards.
        """
        ...

    def stop(self) -> None:
        """Release the device; safe to call twice and without `start`."""
        ...


class RepeatingBackend(Backend, Protocol):
    """A backend that can run a batch again in FP32; it says so in `BackendInfo.can_repeat_in_fp32`."""

    def run_fp32(self, batch: Pixels, weights: PromptWeights | None = None) -> Pixels:
        """As `run`, in FP32 throughout; slower, and larger on the device."""
        ...


class MaskingBackend(Backend, Protocol):
    """A backend whose runs may hold images of several sizes; it says so in `BackendInfo.can_mask`."""

    def run_masked(self, batch: Pixels, sizes: Sizes, weights: PromptWeights | None = None) -> Pixels:
        """As `run`, of images in the top left corners of (N, 3, H, W); each comes out as if it had run alone.

        `sizes` are multiples of `size_multiple` as well; what is outside of them means nothing in the answer.
        """
        ...


class Pending(Protocol):
    """A batch that a backend was given, and whose run goes on by itself."""

    def wait(self, seconds: float) -> None:
        """Return when the run has ended, or after `seconds`; how it ended is told by `result`."""
        ...

    def result(self) -> Pixels:
        """Block until the run has ended, and answer or raise as `run`; called once."""
        ...


class PipelinedBackend(Backend, Protocol):
    """A backend that takes the next batch while one runs; it says so in `BackendInfo.can_begin_ahead`.

    The runs themselves follow one another; only what surrounds them overlaps. `run` is `begin` and then `result`.
    """

    def begin(self, batch: Pixels, weights: PromptWeights | None = None) -> Pending:
        """Start a run, or put it behind the one that goes on; at most two are begun at a time.

        The array must not change until the result. Raises as `run`; what was begun before is not harmed then. `stop`
        gives up what has no result yet.
        """
        ...


class PipelinedMaskingBackend(PipelinedBackend, MaskingBackend, Protocol):
    """Both: `run_masked(batch, sizes)` is `begin_masked(batch, sizes).result()`."""

    def begin_masked(self, batch: Pixels, sizes: Sizes, weights: PromptWeights | None = None) -> Pending:
        """As `begin`, of a masked run."""
        ...
