"""Tile runs: the tiles of an image on their way to the devices and back."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

from server.backends.base import Pixels
from server.concurrency import gather
from server.formats import codec
from server.formats.header import Header
from server.formats.output import OutputFormat
from server.imaging.report import Degradations, Report
from server.imaging.tiling import Grid, Tile
from server.restore.frame import Frame
from server.restore.guide import Guide
from server.restore.options import Progress, RestoreOptions
from server.restore.photo import Photo
from server.scheduling.queue.tile import Completion, PaddedShape

T = TypeVar("T")
Submit = Callable[[Pixels], Awaitable[Completion]]


class Work(Protocol):
    """Does what a processor has to do, in a thread or at once."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


class Runs(NamedTuple):
    """What is told of the runs of one image: the first wait, the size of the largest, and the padded shape it
    shared."""

    queue_s: float
    batch_size: int
    shared: PaddedShape | None


class WholeRun:
    """The one run of a photo that needs no tiles: cut while it is opened, and put back while it is written.

    So it goes to a thread twice and not four times.
    """

    def __init__(self, photo: Photo, grid: Grid) -> None:
        (self._tile,) = grid
        self._photo = photo
        self._pixels = photo.cut(self._tile)
        self._completion: Completion

    async def run(self, submit: Submit, progress: Progress) -> Runs:
        """Wait for its run; `progress` is told before and after it."""
        progress(0, 1)
        self._completion = completion = await submit(self._pixels)
        progress(1, 1)
        return Runs(completion.queue_s, completion.batch_size, completion.shared)

    def add(self) -> None:
        """Put what came back into the photo, after `run`; work for a processor."""
        completion = self._completion
        self._photo.add(self._tile, self._pixels, completion.output, completion.aux)
        del self._pixels, self._completion  # the file that is written needs neither


async def run_tiles(
    photo: Photo | Frame, grid: Grid, submit: Submit, work: Work, in_flight: int, progress: Progress
) -> Runs:
    """Run the guide, if there is one, and all tiles, `in_flight` at a time; `progress` is told first of 0 runs."""
    guide, guided = photo.guide, asyncio.Event()
    steps: Iterator[Guide | Tile] = chain([] if guide is None else [guide], grid)
    completions, first_wait, largest = 0, math.inf, 0
    shared: PaddedShape | None = None

    async def run_in_turn() -> None:
        nonlocal completions, first_wait, largest, shared
        for step in steps:  # all who run share them
            if isinstance(step, Guide):
                completion = await submit(await work(partial(step.reduce, photo.crop)))
                await work(partial(step.take, completion.output, completion.aux))
                guided.set()
            else:
                pixels = await work(partial(photo.cut, step))
                completion = await submit(pixels)
                if guide is not None:
                    await guided.wait()
                await work(partial(photo.add, step, pixels, completion.output, completion.aux))
            completions, largest = completions + 1, max(largest, completion.batch_size)
            first_wait, shared = min(first_wait, completion.queue_s), completion.shared
            progress(completions, grid.runs)

    progress(0, grid.runs)
    if grid.is_whole:
        await run_in_turn()
    else:  # one run that fails is enough, and its photo fails once
        await gather(run_in_turn() for _ in range(min(grid.runs, in_flight)))
    return Runs(first_wait, largest, shared)


def open_photo(data: bytes, header: Header, grid: Grid, options: RestoreOptions) -> tuple[Photo, WholeRun | None]:
    """Decode a photo, and cut the one run of a photo that needs no tiles."""
    photo = Photo(codec.decode(data, header, options.colours), grid, options)
    return photo, WholeRun(photo, grid) if grid.is_whole else None


def write_photo(
    photo: Photo, whole: WholeRun | None, output: OutputFormat, labels: Sequence[str]
) -> tuple[bytes, Report | None, Degradations | None]:
    """Encode a photo, with what is told about it."""
    if whole is not None:
        whole.add()
    findings = photo.findings(labels)
    return photo.encode(output), photo.report(findings), findings.degradations
