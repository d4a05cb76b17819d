"""The PyTorch backend on a CUDA device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends.base import ModelInput, Pixels
from server.backends.pytorch import TorchBackend, TorchSettings
from server.backends.torch_recordings import RUNS_BEFORE_RECORDING
from server.errors import DeviceOutOfMemory
from server.scheduling.execution.recovery import psnr

torch = pytest.importorskip("torch", reason="runs the network with torch (extra `pytorch`)")
pytestmark = pytest.mark.gpu

Photo = Callable[..., Pixels]


@contextmanager
def started(weights: Path, **settings: Any) -> Iterator[TorchBackend]:
    settings = {"devices": ("cuda:0",)} | settings
    backend = TorchBackend(TorchSettings(backend="pytorch", artifact=weights, **settings), max_batch=8)
    backend.start()
    try:
        yield backend
    finally:
        backend.stop()


@pytest.mark.parametrize(("precision", "gate_db"), [("fp32", 90), ("fp16", 50), ("bf16", 35)])
@pytest.mark.parametrize("side", [64, 512])
def test_every_precision_comes_near_the_cpu(
    weights: Path, photo: Photo, precision: str, gate_db: float, side: int
) -> None:
    batch = photo(1, 3, side, side)
    with started(weights, devices=("cpu",)) as backend:
        reference = backend.run(ModelInput(batch)).pixels
    with started(weights, torch_precision=precision) as backend:
        for _ in range(RUNS_BEFORE_RECORDING + 3):  # eager, recorded, replayed
            assert psnr(backend.run(ModelInput(batch)).pixels, reference) > gate_db
        if precision != "fp32":
            assert psnr(backend.run(ModelInput(batch, precision="fp32")).pixels, reference) > 90


def test_a_recorded_shape_answers_for_the_pixels_it_is_given(weights: Path, photo: Photo) -> None:
    shapes = [(1, 3, 64, 64), (2, 3, 64, 96)]
    with started(weights) as recorded, started(weights, device_cache_bytes=0) as eager:
        outputs = []
        for seed in range(2 * (RUNS_BEFORE_RECORDING + 4)):
            batch = photo(*shapes[seed % 2], seed=seed)
            outputs.append((recorded.run(ModelInput(batch)).pixels, eager.run(ModelInput(batch)).pixels))
        assert recorded._recordings is not None
        assert len(recorded._recordings) == 2
        for found, expected in outputs:  # compared at the end: no answer may change under its owner
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_recording_of_a_padded_shape_answers_for_images_of_any_sizes_in_it(weights: Path, photo: Photo) -> None:
    mixes = [[(64, 96), (32, 32)], [(16, 8), (64, 64)], [(40, 72), (24, 96)]]
    with started(weights) as recorded, started(weights, devices=("cpu",)) as reference:
        for seed in range(RUNS_BEFORE_RECORDING + 5):  # eager, recorded, replayed
            padded_shape, sizes = photo(2, 3, 64, 96, seed=seed), mixes[seed % len(mixes)]
            together = recorded.run(ModelInput(padded_shape, np.array(sizes, np.int64))).pixels
            for index, (height, width) in enumerate(sizes):
                alone = reference.run(
                    ModelInput(np.ascontiguousarray(padded_shape[index : index + 1, :, :height, :width]))
                ).pixels
                assert psnr(together[index, :, :height, :width], alone[0]) > 90
        assert recorded._recordings is not None
        assert len(recorded._recordings) == 1


@pytest.mark.parametrize("device_cache_bytes", [0, 2**30], ids=["eager", "recorded"])
def test_each_of_two_begun_batches_gets_its_own_answer(weights: Path, photo: Photo, device_cache_bytes: int) -> None:
    shapes = [(1, 3, 64, 64), (1, 3, 64, 64), (4, 3, 256, 256)]
    batches = [photo(*shapes[seed % 3], seed=seed) for seed in range(18)]
    with started(weights, devices=("cpu",)) as reference:
        expected = [reference.run(ModelInput(batch)).pixels for batch in batches]
    with started(weights, device_cache_bytes=device_cache_bytes) as backend:
        found = []
        pending = backend.begin(ModelInput(batches[0]))
        for batch in batches[1:]:
            behind = backend.begin(ModelInput(batch))
            found.append(pending.result().pixels)
            pending = behind
        found.append(pending.result().pixels)
    for answer, wanted in zip(found, expected, strict=True):
        assert psnr(answer, wanted) > 90


def test_a_run_that_does_not_fit_gives_its_memory_back_and_a_smaller_one_goes_well(weights: Path, photo: Photo) -> None:
    with started(weights) as backend:
        backend.run(ModelInput(photo(1, 3, 64, 64)))
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(2**28 / total)
        try:
            with pytest.raises(DeviceOutOfMemory):
                backend.run(ModelInput(photo(8, 3, 1024, 1024)))
            assert torch.cuda.memory_allocated() < 2**27
            assert backend.run(ModelInput(photo(1, 3, 64, 64))).pixels.shape == (1, 3, 64, 64)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_reserved_memory_stays_within_the_budget_of_the_recordings(weights: Path, photo: Photo) -> None:
    budget = 2**27
    with started(weights, device_cache_bytes=budget) as backend:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        for width in (64, 128, 192, 256, 320):
            for _ in range(RUNS_BEFORE_RECORDING + 2):
                backend.run(ModelInput(photo(1, 3, 256, width)))
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            grown = torch.cuda.memory_reserved() - before
            assert backend._recordings is not None
            assert len(backend._recordings) > 0
            assert 0 < backend._recordings.bytes <= budget
            assert grown <= budget + 2**25  # and torch's workspaces


def test_a_recording_still_answers_after_another_was_dropped(weights: Path, photo: Photo) -> None:
    kept, dropped = photo(1, 3, 64, 64), photo(1, 3, 64, 96)
    with started(weights, devices=("cpu",)) as reference:
        expected = reference.run(ModelInput(kept)).pixels
    with started(weights) as backend:
        for batch in (dropped, kept):
            for _ in range(RUNS_BEFORE_RECORDING + 2):
                backend.run(ModelInput(batch))
        assert backend._recordings is not None
        backend._recordings._cache._entries.popitem(last=False)
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        assert psnr(backend.run(ModelInput(kept)).pixels, expected) > 90
