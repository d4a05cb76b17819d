"""Tile runs: sends the tiles of an image to the devices and puts the results together."""

import asyncio
import math
from abc import ABC, abstractmethod
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
    """Runs CPU work inline or in a thread pool."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


class Runs(NamedTuple):
    """The runs of one image: the shortest wait, the largest batch size, and the padded shape of a mixed-size batch."""

    queue_s: float
    batch_size: int
    shared: PaddedShape | None


class RestoredFile(NamedTuple):
    """The encoded answer, its report if one was asked for, and the degradations if the model names them."""

    data: bytes
    report: Report | None
    degradations: Degradations | None


class SingleRun(ABC):
    """The single run of an untiled photo: cut with the decode, and put back with the encode.

    So the photo goes to a thread, or to a process, twice instead of four times.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._completion: Completion

    async def run(self, submit: Submit, progress: Progress) -> Runs:
        """Wait for the run; `progress` is called before and after it."""
        progress(0, 1)
        self._completion = completion = await submit(self._pixels)
        progress(1, 1)
        return Runs(completion.queue_s, completion.batch_size, completion.shared)

    @abstractmethod
    def write(self, output: OutputFormat, labels: Sequence[str]) -> RestoredFile:
        """Put the result of `run` into the photo, encode it and report on it; once, CPU work."""


class WholeRun(SingleRun):
    """The single run of a photo in this process."""

    def __init__(self, photo: Photo, grid: Grid) -> None:
        (self._tile,) = grid
        self._photo = photo
        super().__init__(photo.cut(self._tile))

    def write(self, output: OutputFormat, labels: Sequence[str]) -> RestoredFile:
        """Put the result into the photo, and write it."""
        completion = self._completion
        self._photo.add(self._tile, self._pixels, completion.output, completion.aux)
        del self._pixels, self._completion, completion  # the encoder needs neither
        return write_photo(self._photo, output, labels)


async def run_tiles(
    photo: Photo | Frame, grid: Grid, submit: Submit, work: Work, in_flight: int, progress: Progress
) -> Runs:
    """Run the guide, if there is one, and all tiles, `in_flight` at a time; `progress` starts at 0 runs."""
    guide, guided = photo.guide, asyncio.Event()
    steps: Iterator[Guide | Tile] = chain([] if guide is None else [guide], grid)
    completions, first_wait, largest = 0, math.inf, 0
    shared: PaddedShape | None = None

    async def run_in_turn() -> None:
        nonlocal completions, first_wait, largest, shared
        for step in steps:  # shared by all workers
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
    else:  # the first failed run fails the photo, once
        await gather(run_in_turn() for _ in range(min(grid.runs, in_flight)))
    return Runs(first_wait, largest, shared)


def open_photo(data: bytes, header: Header, grid: Grid, options: RestoreOptions) -> Photo | SingleRun:
    """Decode a photo, and cut the single run if it needs no tiles."""
    photo = Photo(codec.decode(data, header, options.colours), grid, options)
    return WholeRun(photo, grid) if grid.is_whole else photo


def write_photo(photo: Photo, output: OutputFormat, labels: Sequence[str]) -> RestoredFile:
    """Encode a photo whose tiles have all come, and report on it."""
    findings = photo.findings(labels)
    return RestoredFile(photo.encode(output), photo.report(findings), findings.degradations)
