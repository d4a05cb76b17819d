"""The Tile that waits for its answer, and the Batch of tiles that run together."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from server.backends.base import Aux, ModelInput, Pixels, Result, RunPrecision, Sizes
from server.errors import WrongOutput


class Priority(IntEnum):
    """The class of a tile; the lower number goes first."""

    INTERACTIVE = 0
    BATCH = 1


# A lone tile of a rare size waits at most this long plus the current run, whatever the load of other sizes. Long
# against the runs of a busy device (tens of milliseconds), so that few are broken up; short against human patience.
STARVATION_S = 0.25
# The batch class yields to the interactive one, but only for this long: see the planner.
BATCH_PATIENCE_S = 10.0
PATIENCE_S = (STARVATION_S, BATCH_PATIENCE_S)
"""By priority."""


class PaddedShape(NamedTuple):
    """The (height, width) of the tiles in one bucket, and of each image in a run, and the model that runs them.

    Buckets, costs and forecasts are kept by it, so tiles of two models share nothing but a device.
    """

    height: int
    width: int
    model: str = ""
    """The name under which the model is served; empty where there is only one."""

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Completion(NamedTuple):
    """The answer to one tile: output (3, H, W), seconds it waited, seconds its run took, tiles in that run.

    `aux` (rows, columns) is the model's auxiliary output, None for a model without one. `shared` is the padded shape
    of a mixed-size batch, None for a batch of one size.
    """

    output: Pixels
    queue_s: float
    inference_s: float
    batch_size: int
    aux: Aux | None = None
    shared: PaddedShape | None = None


# Identity, not equality: two tiles with equal pixels are still two tiles.
@dataclass(eq=False, slots=True)
class Tile:
    """A tile (3, H, W), the future of its answer, and its times in seconds on the batcher's clock."""

    pixels: Pixels
    future: asyncio.Future[Completion]
    enqueued_at: float
    deadline: float | None = None
    """When the answer is due at the latest."""
    priority: Priority = Priority.INTERACTIVE
    taken: bool = False
    """Whether it left the queue inside a batch; from then on device time is spent on it."""
    expected_at: float | None = None
    """When it was predicted to end, at its admission; None for a tile of a series."""
    model: str = ""
    """The name of the model that restores it."""
    padded_shape: PaddedShape = field(init=False)
    due: float = field(init=False)
    """The deadline, or the time from which it goes first in its class because it has waited long."""

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        self.padded_shape = PaddedShape(shape[1], shape[2], self.model)
        self.due = self.enqueued_at + PATIENCE_S[self.priority] if self.deadline is None else self.deadline

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    @property
    def pixel_count(self) -> int:
        """H * W."""
        return self.padded_shape.height * self.padded_shape.width

    def expired(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


Outcome = Completion | Exception


@dataclass(eq=False, slots=True)
class Batch:
    """Tiles of one model that run together, of one shape or padded to `shared`, and when they left the queue."""

    tiles: Sequence[Tile]
    taken_at: float
    shared: PaddedShape | None = None
    """The shape that the images of a mixed-size batch are padded to; None if they are of one shape."""

    @property
    def padded_shape(self) -> PaddedShape:
        return self.shared or self.tiles[0].padded_shape

    @property
    def model(self) -> str:
        """The name of the model that runs."""
        return self.tiles[0].model

    @property
    def pixel_count(self) -> int:
        """N * H * W of what runs."""
        return len(self.tiles) * self.padded_shape.pixels

    @property
    def sizes(self) -> Sizes | None:
        """Each image's own (height, width) in a mixed-size batch; None if all are of one shape."""
        return None if self.shared is None else np.array([tile.padded_shape[:2] for tile in self.tiles], np.int64)

    def by_padded_shape(self) -> Iterable[tuple[PaddedShape, int]]:
        """The tiles' own padded shapes, and how many tiles each has."""
        if self.shared is None:
            return ((self.padded_shape, len(self.tiles)),)
        return Counter(tile.padded_shape for tile in self.tiles).items()

    def part(self, tiles: Sequence[Tile]) -> "Batch":
        """A smaller batch of some of the tiles; a single one runs in its own shape."""
        return Batch(tiles, self.taken_at, shared=self.shared if len(tiles) > 1 else None)

    def model_input(self, precision: RunPrecision = "normal") -> ModelInput:
        """Convert the tiles to the input of a backend."""
        return ModelInput(self.stack(), self.sizes, precision)

    def stack(self) -> Pixels:
        """Return the input (N, 3, H, W): one copy, or a view where the batch is a single tile."""
        if self.shared is not None:
            padded = np.zeros((len(self.tiles), 3, *self.shared[:2]), np.float32)
            for place, tile in zip(padded, self.tiles, strict=True):
                place[:, : tile.padded_shape.height, : tile.padded_shape.width] = tile.pixels
            return padded
        if len(self.tiles) == 1:
            return self.tiles[0].pixels[np.newaxis]
        return np.stack([tile.pixels for tile in self.tiles])

    def outcomes(self, result: Result, started_at: float, inference_s: float) -> list[Outcome]:
        """Pair each tile with a view of its part of `result`; an image with a NaN or infinity gets WrongOutput.

        Raises WrongOutput if the pixels are not float32 (N, 3, H, W) or the auxiliary output is not that of N images:
        then no part can be trusted to belong to any tile.
        """
        output, aux = result.pixels, result.aux
        if aux is not None and len(aux) != len(self.tiles):
            raise WrongOutput(f"the run returned the auxiliary output of {len(aux)} images for {len(self.tiles)}")
        expected = (len(self.tiles), 3, *self.padded_shape[:2])
        if not isinstance(output, np.ndarray) or output.dtype != np.float32 or output.shape != expected:
            found = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
            raise WrongOutput(f"the run answered with {found} instead of float32 {expected}")
        finite = finite_images(output)
        restored: Sequence[Pixels] = list(output)
        if self.shared is not None:  # what is outside of an image means nothing
            pairs = zip(output, self.tiles, strict=True)
            restored = [image[:, : tile.padded_shape.height, : tile.padded_shape.width] for image, tile in pairs]
            finite = [bool(np.isfinite(np.einsum("chw->", image))) for image in restored]
        return [
            Completion(
                restored[index],
                started_at - tile.enqueued_at,
                inference_s,
                len(self.tiles),
                None if aux is None else aux[index],
                self.shared,
            )
            if finite[index]
            else WrongOutput("the restored image has values that are not finite")
            for index, tile in enumerate(self.tiles)
        ]


def finite_images(output: Pixels) -> list[bool]:
    """Tell for each image of (N, C, H, W) whether all its values are finite."""
    # A sum is finite only if every term is. One pass without a temporary; einsum sums several times as fast as sum().
    sums = np.einsum("np->n", output.reshape(len(output), -1))
    return [bool(finite) for finite in np.isfinite(sums)]


def settle_soon(tiles: Sequence[Tile], outcomes: Sequence[Outcome]) -> None:
    """End every tile from any thread, with one callback on the loop for all of them."""
    if not tiles:
        return
    # A closed loop has nobody left who could wait for an answer.
    with suppress(RuntimeError):
        tiles[0].future.get_loop().call_soon_threadsafe(settle, tiles, outcomes)


def fail_soon(tiles: Sequence[Tile], error: Callable[[], Exception]) -> None:
    """End every tile with its own instance of an error: a raised exception carries its own traceback."""
    settle_soon(tiles, [error() for _ in tiles])


def settle(tiles: Sequence[Tile], outcomes: Sequence[Outcome]) -> None:
    """End every tile, on the loop; one that has ended already (cancelled, given up at the stop) stays as it is."""
    for tile, outcome in zip(tiles, outcomes, strict=True):
        if tile.future.done():
            continue
        if isinstance(outcome, Completion):
            tile.future.set_result(outcome)
        else:
            tile.future.set_exception(outcome)
