"""A batch of several sizes: each image goes into the padded shape and comes out of it as it was."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from devices import MODEL
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Result
from server.errors import DeviceOutOfMemory, UnsupportedSize, WrongOutput
from server.metrics import Metrics
from server.scheduling.execution.pipeline import Pipeline
from server.scheduling.execution.recovery import ParityCheck, Recovery
from server.scheduling.queue.tile import Batch, Completion, PaddedShape, Tile

SHARED = PaddedShape(24, 32)
SIZES = [(8, 32), (24, 16), (16, 16)]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def batch(loop: asyncio.AbstractEventLoop) -> Batch:
    rng = np.random.default_rng(1)
    tiles = [Tile(rng.random((3, *size), np.float32), loop.create_future(), 0.0) for size in SIZES]
    return Batch(tiles, 0.0, shared=SHARED)


class MixedSizeBackend:
    """Adds one inside of each image and a hundred outside; refuses over `most` images, and sides over `largest`."""

    def __init__(self, most: int = 8, largest: int = 1000) -> None:
        self.most = most
        self.largest = largest
        self.runs: list[tuple[tuple[int, ...], list[list[int]] | None]] = []

    def start(self) -> BackendInfo:
        return BackendInfo(ModelSpec("none", "fp32", 8, mixed_sizes=True), "mixed", "test", 8)

    def run(self, batch: ModelInput) -> Result:
        if batch.sizes is None:
            self.runs.append((batch.shape, None))
            return Result(batch.pixels + 1)
        self.runs.append((batch.shape, batch.sizes.tolist()))
        if max(batch.shape[2:]) > self.largest:
            raise UnsupportedSize("no profile takes that")
        if batch.shape[0] > self.most:
            raise DeviceOutOfMemory("too many")
        output = batch.pixels + 100
        for image, before, (height, width) in zip(output, batch.pixels, batch.sizes, strict=True):
            image[:, :height, :width] = before[:, :height, :width] + 1
        return Result(output)

    def stop(self) -> None:
        pass


def test_images_lie_in_the_corner_and_the_rest_is_zero(batch: Batch) -> None:
    padded_shape = batch.stack()
    assert padded_shape.shape == (3, 3, *SHARED[:2])
    for place, tile in zip(padded_shape, batch.tiles, strict=True):
        height, width, _ = tile.padded_shape
        assert np.array_equal(place[:, :height, :width], tile.pixels)
        assert np.count_nonzero(place) == np.count_nonzero(tile.pixels)
    assert batch.sizes is not None
    assert batch.sizes.tolist() == [list(size) for size in SIZES]
    assert batch.pixel_count == 3 * SHARED.pixels


def test_each_tile_gets_its_own_part_and_is_told_of_the_padded_shape(batch: Batch) -> None:
    for tile, outcome in zip(batch.tiles, batch.outcomes(Result(batch.stack() * 2), 1.0, 0.5), strict=True):
        assert isinstance(outcome, Completion)
        assert np.array_equal(outcome.output, tile.pixels * 2)
        assert (outcome.shared, outcome.batch_size) == (SHARED, 3)


def test_what_is_not_finite_counts_inside_of_the_image_only(batch: Batch) -> None:
    output = batch.stack()
    output[0, 0, 20, 0] = np.nan  # below the first image
    output[1, 0, 20, 0] = np.nan  # within the second
    kinds = [type(outcome) for outcome in batch.outcomes(Result(output), 0.0, 0.0)]
    assert kinds == [Completion, WrongOutput, Completion]


def test_a_batch_of_one_size_has_no_sizes(batch: Batch) -> None:
    alone = batch.part(batch.tiles[:1])
    assert (alone.sizes, alone.padded_shape) == (None, batch.tiles[0].padded_shape)


def recovered(backend: MixedSizeBackend, batch: Batch) -> tuple[list[object], CollectorRegistry]:
    registry = CollectorRegistry()
    recovery = Recovery(Pipeline({MODEL: backend}, lambda: 0.0), Metrics(registry), ParityCheck(), lambda: 0.0)
    return list(recovery.run(batch, lambda wait: None).outcomes), registry


def test_the_backend_gets_the_sizes_and_the_run_is_counted(batch: Batch) -> None:
    backend = MixedSizeBackend()
    outcomes, registry = recovered(backend, batch)
    assert backend.runs == [((3, 3, *SHARED[:2]), [list(size) for size in SIZES])]
    for tile, outcome in zip(batch.tiles, outcomes, strict=True):
        assert isinstance(outcome, Completion)
        assert np.array_equal(outcome.output, tile.pixels + 1)
    device = {"device": "0"}
    assert registry.get_sample_value("promptir_mixed_size_batches_total", device) == 1
    assert registry.get_sample_value("promptir_mixed_size_images_total", device) == 3
    useful = sum(height * width for height, width in SIZES)
    assert registry.get_sample_value("promptir_padding_pixels_total", device) == 3 * SHARED.pixels - useful


def test_out_of_memory_the_parts_keep_the_padded_shape_and_a_single_image_its_own_size(batch: Batch) -> None:
    backend = MixedSizeBackend(most=1)
    outcomes, _ = recovered(backend, batch)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert [shape for shape, sizes in backend.runs if sizes is None] == [(1, 3, *size) for size in SIZES]


def test_in_a_padded_shape_that_the_backend_does_not_take_each_runs_by_itself_and_the_padded_shape_is_remembered(
    batch: Batch,
) -> None:
    backend = MixedSizeBackend(largest=max(SHARED[:2]) - 1)
    recovery = Recovery(
        Pipeline({MODEL: backend}, lambda: 0.0), Metrics(CollectorRegistry()), ParityCheck(), lambda: 0.0
    )
    ran = recovery.run(batch, lambda wait: None)
    assert [shape for shape, _ in backend.runs] == [(3, 3, *SHARED[:2])] + [(1, 3, *size) for size in SIZES]
    for tile, outcome in zip(batch.tiles, ran.outcomes, strict=True):
        assert isinstance(outcome, Completion)
        assert np.array_equal(outcome.output, tile.pixels + 1)
    assert recovery.unsupported_shapes == {SHARED}
