"""Inference: the use case of the protocol, the images of one tensor in and their restored copies out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from server.concurrency import gather, run_off_loop
from server.errors import ImageTooLarge, InvalidRequest
from server.formats.header import check_size, probe
from server.open_inference import models
from server.open_inference.models import INPUT, OUTPUT, Datatype
from server.open_inference.parameters import Parameters, refuse_features
from server.open_inference.tensors import Images, Shape
from server.restore.frame import Frames
from server.restore.options import Mode, Restored, Timings
from server.restore.pipeline import Restorer
from server.settings import LimitSettings

# Files of more follow one another: photos of one request must not refuse each other for the load that they are.
TOGETHER_PIXELS = 2**20
_SHOWN_NAMES = 3

Charge = Callable[[int], None]
"""Charges pixels to whoever asks; raises QuotaExceeded."""


Reserve = Callable[[int], None]
"""Reserves bytes of memory for results; raises QueueFull."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a request says of one of its tensors."""

    name: str
    parameters: Mapping[str, object]
    datatype: str = ""
    dims: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request without its data; `deadline` is on the clock of the restorer."""

    model: str
    id: str
    shape: Shape
    parameters: Parameters
    deadline: float | None
    charge: Charge


@dataclass(frozen=True, slots=True)
class Outcome:
    """The output tensor of a call: N images, each (3, H, W) or a file, and how they were made."""

    images: Sequence[Frames] | Sequence[bytes]
    datatype: Datatype
    dims: tuple[int, ...]
    mode: Mode
    timings: Timings
    dropped: tuple[str, ...] = ()
    """What any of the files held beside the picture and its answer does not."""

    @property
    def told(self) -> dict[str, str]:
        """The parameters of the answer."""
        return {"mode": self.mode.value} | ({"dropped": ", ".join(self.dropped)} if self.dropped else {})

    @property
    def size(self) -> int:
        """Bytes of the images."""
        return sum(len(image) if isinstance(image, bytes) else image.nbytes for image in self.images)


class Inference:
    """Turns calls into restorations; each belongs to a request that the restorer has accepted."""

    def __init__(self, restorer: Restorer, limits: LimitSettings) -> None:
        self._restorer = restorer
        self._limits = limits

    def call(
        self,
        model: str,
        version: str,
        request_id: str,
        parameters: Mapping[str, object],
        inputs: Sequence[Named],
        outputs: Sequence[Named],
        charge: Charge,
        patience_s: float | None = None,
    ) -> Call:
        """Check all but the data of a request, whether it would be admitted now, and charge it.

        `patience_s` is the transport's own timeout. Raises UnknownModel, InvalidRequest, ImageTooLarge, QueueFull,
        DeadlineExceeded, QuotaExceeded.
        """
        models.find(model, version)
        asked = Parameters.of(parameters)
        for tensor in (*inputs, *outputs):
            refuse_features(tensor.parameters)
        if len(inputs) != 1 or inputs[0].name != INPUT:
            raise InvalidRequest(f"A request has one input, {INPUT}, not {_names(inputs)}.")
        if len(outputs) > 1 or any(output.name != OUTPUT for output in outputs):
            raise InvalidRequest(f"There is one output, {OUTPUT}, not {_names(outputs)}.")
        shape = Shape.of(INPUT, inputs[0].datatype, inputs[0].dims)
        patience = [seconds for seconds in (asked.patience_s, patience_s) if seconds is not None]
        call = Call(model, request_id, shape, asked, self._restorer.deadline_in(min(patience, default=None)), charge)
        if shape.datatype is not Datatype.BYTES:  # files tell their size when they are there
            _, _, height, width = shape.dims
            check_size(height, width, self._limits)
            self._check_pixels(shape.count * height * width)
            self._restorer.admit(height, width, asked.options, call.deadline, asked.turn, shape.count)
            charge(shape.count * height * width)
        return call

    async def run(self, call: Call, read: Callable[[], Images], size: int, reserve: Reserve) -> Outcome:
        """Restore the images of a call, which `read` makes of `size` bytes of a request.

        The memory of the results is reserved: of tensors before they run, of files as each is there. Raises what
        `read`, `reserve` and the Restorer raise. Cancelling it takes its jobs back.
        """
        images = await run_off_loop(read, size)
        if not isinstance(images, list):
            reserve(images.nbytes)
            restored = await self._restorer.restore_frames(
                images, call.parameters.options, deadline=call.deadline, priority=call.parameters.turn
            )
            return Outcome(restored.frames, call.shape.datatype, call.shape.dims, restored.mode, restored.timings)
        files = await self._restore_files(call, images, reserve)
        mode = Mode.TILED if any(file.mode is Mode.TILED for file in files) else Mode.WHOLE
        slowest = max(files, key=lambda file: file.timings.queue_s + file.timings.inference_s)
        dropped = tuple(sorted({part for file in files for part in file.dropped}))
        return Outcome([file.data for file in files], Datatype.BYTES, call.shape.dims, mode, slowest.timings, dropped)

    async def _restore_files(self, call: Call, files: Sequence[bytes], reserve: Reserve) -> list[Restored]:
        async def restore(data: bytes) -> Restored:
            options, turn = call.parameters.options, call.parameters.turn
            restored = await self._restorer.restore(data, options, deadline=call.deadline, priority=turn)
            reserve(len(restored.data))
            return restored

        headers = await run_off_loop(lambda: [probe(data, self._limits) for data in files], sum(map(len, files)))
        sizes = [header.height * header.width for header in headers]
        self._check_pixels(sum(sizes))
        call.charge(sum(header.decoded_pixels for header in headers))
        small = [at for at, size in enumerate(sizes) if size <= TOGETHER_PIXELS]
        restored = dict(zip(small, await gather(restore(files[at]) for at in small), strict=True))
        for at in range(len(files)):
            if at not in restored:
                restored[at] = await restore(files[at])
        return [restored[at] for at in range(len(files))]

    def _check_pixels(self, pixels: int) -> None:
        """Raise ImageTooLarge for images that are together larger than one may be: their results are held together."""
        if pixels > (limit := self._limits.max_image_pixels):
            raise ImageTooLarge(
                f"The images of the request have {pixels} pixels together; at most {limit} are taken: send fewer at a "
                "time.",
                max_image_pixels=limit,
            )


def _names(tensors: Sequence[Named]) -> str:
    """The names of the first tensors, cut to what a sentence holds."""
    names = [models.shown(tensor.name) for tensor in tensors[:_SHOWN_NAMES]]
    return f"[{', '.join(names)}{', ...' if len(tensors) > _SHOWN_NAMES else ''}]"
