"""Inference: restores the images of one tensor, whatever transport carries the protocol."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from server.access.caller import Caller
from server.concurrency import INLINE_BYTES, gather, run_off_loop
from server.errors import ImageTooLarge, InvalidRequest
from server.formats.header import check_size, is_quick, probe
from server.open_inference import models
from server.open_inference.models import INPUT, OUTPUT, Datatype, Models
from server.open_inference.parameters import Parameters, refuse_features
from server.open_inference.tensors import Images, Shape
from server.restore.frame import Frames
from server.restore.options import Mode, Restored, Timings
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest
from server.settings import LimitSettings

# Larger files are restored one after another: the photos of one request must not refuse each other for load.
TOGETHER_PIXELS = 2**20
_SHOWN_NAMES = 3

Reserve = Callable[[int], None]
"""Reserves bytes of memory for results; raises QueueFull."""


@dataclass(frozen=True, slots=True)
class Named:
    """One of the tensors that a request names."""

    name: str
    parameters: Mapping[str, object]
    datatype: str = ""
    dims: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request without its data; `run` restores its images as `request`, and closes that."""

    model: str
    id: str
    shape: Shape
    request: RestoreRequest


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output tensor of a call: N images, each (3, H, W) or a file, and how they were made."""

    images: Sequence[Frames] | Sequence[bytes]
    datatype: Datatype
    dims: tuple[int, ...]
    mode: Mode
    timings: Timings
    dropped: tuple[str, ...] = ()
    """Parts of the files that the answer lacks."""

    @property
    def told(self) -> dict[str, str]:
        """The parameters of the answer."""
        return {"mode": self.mode.value} | ({"dropped": ", ".join(self.dropped)} if self.dropped else {})

    @property
    def size(self) -> int:
        """Bytes of the images."""
        return sum(len(image) if isinstance(image, bytes) else image.nbytes for image in self.images)


class Inference:
    """Turns calls into restorations; the Restorer has accepted the request that each belongs to."""

    def __init__(self, restorer: Restorer, limits: LimitSettings) -> None:
        self._restorer = restorer
        self._limits = limits
        self._models = Models(restorer.models)

    def call(
        self,
        model: str,
        version: str,
        request_id: str,
        parameters: Mapping[str, object],
        inputs: Sequence[Named],
        outputs: Sequence[Named],
        caller: Caller | None,
        patience_s: float | None = None,
    ) -> Call:
        """Check everything but the data of a request; admit and charge it, unless it holds files.

        `patience_s` is the transport's own timeout. Raises UnknownModel, InvalidRequest, ImageTooLarge, QueueFull,
        DeadlineExceeded, QuotaExceeded.
        """
        served = self._models.find(model, version).served
        asked = Parameters.of(parameters)
        for tensor in (*inputs, *outputs):
            refuse_features(tensor.parameters)
        if len(inputs) != 1 or inputs[0].name != INPUT:
            raise InvalidRequest(f"A request has one input, {INPUT}, not {_names(inputs)}.")
        if len(outputs) > 1 or any(output.name != OUTPUT for output in outputs):
            raise InvalidRequest(f"There is one output, {OUTPUT}, not {_names(outputs)}.")
        shape = Shape.of(INPUT, inputs[0].datatype, inputs[0].dims)
        patience = [seconds for seconds in (asked.patience_s, patience_s) if seconds is not None]
        deadline = self._restorer.deadline_in(min(patience, default=None))
        request = RestoreRequest(replace(asked.options, model=served), deadline, asked.turn, caller)
        if shape.datatype is not Datatype.BYTES:  # the size of files is known once they are there
            _, _, height, width = shape.dims
            check_size(height, width, self._limits)
            self._check_pixels(shape.count * height * width)
            with ExitStack() as refused:
                refused.push(request)
                self._restorer.admit(request, height, width, images=shape.count)
                request.charge(shape.count * height * width)
                refused.pop_all()
        return Call(model, request_id, shape, request)

    async def run(self, call: Call, read: Callable[[], Images], size: int, reserve: Reserve) -> Outcome:
        """Restore the images of a call, which `read` decodes from `size` bytes of a request.

        Memory for the results is reserved: of tensors before they run, of each file when it is written. Raises as
        `read`, `reserve` and the Restorer. Cancelling it takes its tiles out of the queue.
        """
        with call.request:
            images = await run_off_loop(read, size)
            if not isinstance(images, list):
                reserve(images.nbytes)
                restored = await self._restorer.restore_frames(images, call.request)
                return Outcome(restored.frames, call.shape.datatype, call.shape.dims, restored.mode, restored.timings)
            files = await self._restore_files(call, images, reserve)
        mode = Mode.TILED if any(file.mode is Mode.TILED for file in files) else Mode.WHOLE
        slowest = max(files, key=lambda file: file.timings.queue_s + file.timings.inference_s)
        dropped = tuple(sorted({part for file in files for part in file.dropped}))
        return Outcome([file.data for file in files], Datatype.BYTES, call.shape.dims, mode, slowest.timings, dropped)

    async def _restore_files(self, call: Call, files: Sequence[bytes], reserve: Reserve) -> list[Restored]:
        async def restore(data: bytes) -> Restored:
            request = RestoreRequest(call.request.options, call.request.deadline, call.request.priority)
            restored = await self._restorer.restore(data, request)
            reserve(len(restored.data))
            return restored

        size = sum(map(len, files))
        if not all(map(is_quick, files)):
            size = max(size, INLINE_BYTES + 1)
        headers = await run_off_loop(lambda: [probe(data, self._limits) for data in files], size)
        sizes = [header.height * header.width for header in headers]
        self._check_pixels(sum(sizes))
        call.request.charge(sum(header.decoded_pixels for header in headers))
        small = [at for at, size in enumerate(sizes) if size <= TOGETHER_PIXELS]
        restored = dict(zip(small, await gather(restore(files[at]) for at in small), strict=True))
        for at in range(len(files)):
            if at not in restored:
                restored[at] = await restore(files[at])
        return [restored[at] for at in range(len(files))]

    def _check_pixels(self, pixels: int) -> None:
        """Raise ImageTooLarge if all images together exceed the limit of one: their results are held together."""
        if pixels > (limit := self._limits.max_image_pixels):
            raise ImageTooLarge(
                f"The images of the request have {pixels} pixels together; at most {limit} are taken: send fewer at a "
                "time.",
                max_image_pixels=limit,
            )


def _names(tensors: Sequence[Named]) -> str:
    """List the names of the first tensors, shortened for an error."""
    names = [models.shown(tensor.name) for tensor in tensors[:_SHOWN_NAMES]]
    return f"[{', '.join(names)}{', ...' if len(tensors) > _SHOWN_NAMES else ''}]"
