"""Tests of the PyTorch backend on the CPU, with the tiny network."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends.base import ModelInput, Pixels
from server.backends.pytorch import TorchBackend, TorchSettings
from server.backends.torch_library import keep_sums_exact
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory
from server.scheduling.execution.recovery import psnr

torch = pytest.importorskip("torch", reason="runs the network with torch (extra `export`)")

Make = Callable[..., Path]


def backend_of(artifact: Path, device: str | None = None, **settings: Any) -> TorchBackend:
    return TorchBackend(TorchSettings(backend="pytorch", artifact=artifact, **settings), max_batch=4, device=device)


def photo(*shape: int) -> Pixels:
    return np.random.default_rng(3).random(shape, np.float32)


@pytest.fixture
def reference(tiny_weights: Path) -> Callable[[Pixels], Pixels]:
    """The network itself, as the checkpoint loader gives it."""
    from models.checkpoint import load_network
    from models.variants import variant

    network = load_network(tiny_weights, variant("promptir-tiny"))

    def run(batch: Pixels) -> Pixels:
        with torch.inference_mode():
            output: Pixels = network(torch.from_numpy(batch)).numpy()
        return output

    return run


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 3, 16, 40), (2, 3, 64, 24)])
def test_it_answers_what_the_network_answers(weights_artifact: Make, reference: Any, shape: tuple[int, ...]) -> None:
    backend = backend_of(weights_artifact())
    backend.start()
    batch = photo(*shape)
    output = backend.run(ModelInput(batch)).pixels
    assert (output.shape, output.dtype, output.flags.c_contiguous) == (shape, np.float32, True)
    np.testing.assert_allclose(output, reference(batch), atol=1e-5)


def test_images_of_several_sizes_in_one_padded_shape_come_out_as_alone(weights_artifact: Make) -> None:
    backend = backend_of(weights_artifact())
    assert backend.start().model.mixed_sizes
    sizes, padded_shape = [(24, 40), (8, 8), (48, 16)], photo(3, 3, 48, 40)
    together = backend.run(ModelInput(padded_shape, np.array(sizes, np.int64)))
    for index, (height, width) in enumerate(sizes):
        alone = backend.run(ModelInput(np.ascontiguousarray(padded_shape[index : index + 1, :, :height, :width])))
        np.testing.assert_allclose(together.pixels[index, :, :height, :width], alone.pixels[0], atol=1e-5)
        np.testing.assert_allclose(together.aux[index], alone.aux[0], atol=1e-5)


def test_a_batch_that_may_only_be_read_is_run_and_left_as_it_is(weights_artifact: Make) -> None:
    backend = backend_of(weights_artifact())
    backend.start()
    batch = photo(1, 3, 16, 16)
    before = batch.copy()
    batch.setflags(write=False)
    backend.run(ModelInput(batch))
    assert np.array_equal(batch, before)


def test_sums_of_half_precision_stay_in_fp32_on_a_gpu() -> None:
    matmul = torch.backends.cuda.matmul
    names = ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = [getattr(matmul, name) for name in names]
    try:
        for name in names:
            setattr(matmul, name, True)
        keep_sums_exact(torch)
        assert not any(getattr(matmul, name) for name in names)
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(matmul, name, value)


def test_it_says_what_it_serves(weights_artifact: Make) -> None:
    info = backend_of(weights_artifact()).start()
    assert (info.backend, info.device, info.model.name, info.model.precision) == ("pytorch", "cpu", "tiny", "fp32")
    assert (info.model.size_multiple, info.max_batch, info.can_repeat_in_fp32) == (8, 4, False)


@pytest.mark.parametrize(("precision", "at_least_db"), [("fp16", 50), ("bf16", 35)])
def test_a_lower_precision_comes_near_and_fp32_can_be_had_as_well(
    weights_artifact: Make, reference: Any, precision: str, at_least_db: float
) -> None:
    backend = backend_of(weights_artifact(), torch_precision=precision)
    info = backend.start()
    assert (info.model.precision, info.can_repeat_in_fp32) == (precision, True)
    batch = photo(1, 3, 32, 32)
    expected = reference(batch)
    output = backend.run(ModelInput(batch)).pixels
    assert output.dtype == np.float32
    assert at_least_db < psnr(output, expected) < 120
    np.testing.assert_allclose(backend.run(ModelInput(batch, precision="fp32")).pixels, expected, atol=1e-5)


def test_a_checkpoint_by_itself_is_served_under_its_own_name(tiny_weights: Path, reference: Any) -> None:
    backend = backend_of(tiny_weights)
    assert backend.start().model.name == "weights"
    batch = photo(1, 3, 8, 8)
    np.testing.assert_allclose(backend.run(ModelInput(batch)).pixels, reference(batch), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights_sha256": "1" * 64}, "is not the file that .* was exported from"),
        ({"variant": "promptir-huge"}, "unknown network variant 'promptir-huge'"),
        ({"variant": "promptir-compact"}, "does not fit the network"),
    ],
)
def test_weights_unlike_their_manifest_are_refused(weights_artifact: Make, fields: dict[str, str], words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        backend_of(weights_artifact(**fields)).start()


def test_an_artifact_without_weights_is_named(weights_artifact: Make) -> None:
    artifact = weights_artifact()
    (artifact / "weights.safetensors").unlink()
    with pytest.raises(BackendUnavailable, match=r"has no weights\.safetensors"):
        backend_of(artifact).start()


def test_an_artifact_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        backend_of(tmp_path / "nowhere").start()


def test_a_missing_torch_names_the_extra(weights_artifact: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match="extra `pytorch`"):
        backend_of(weights_artifact()).start()


def test_cuda_that_is_asked_for_and_not_there_is_an_error(
    weights_artifact: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(BackendUnavailable, match="no usable NVIDIA GPU or driver for CUDA 13"):
        backend_of(weights_artifact(), devices=("cuda:0",)).start()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BackendUnavailable, match="has no CUDA"):
        backend_of(weights_artifact(), devices=("cuda:0",)).start()


def test_running_out_of_memory_is_told_apart_and_the_next_run_goes_well(
    weights_artifact: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(weights_artifact())
    backend.start()

    def fail(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_network", fail)
        with pytest.raises(DeviceOutOfMemory, match=r"\(2, 3, 8, 8\)") as caught:
            backend.run(ModelInput(photo(2, 3, 8, 8)))
        # What holds the failed run's frames would hold its tensors on the device.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert backend.run(ModelInput(photo(1, 3, 8, 8))).pixels.shape == (1, 3, 8, 8)


def test_another_failure_is_a_backend_error_and_the_next_run_goes_well(weights_artifact: Make) -> None:
    backend = backend_of(weights_artifact())
    backend.start()
    with pytest.raises(BackendError, match=r"\(1, 4, 8, 8\)") as caught:
        backend.run(ModelInput(photo(1, 4, 8, 8)))
    assert not isinstance(caught.value, DeviceOutOfMemory)
    assert backend.run(ModelInput(photo(1, 3, 8, 8))).pixels.shape == (1, 3, 8, 8)


def test_a_fault_that_leaves_no_context_to_run_on_is_the_loss_of_the_backend(
    weights_artifact: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(weights_artifact())
    backend.start()

    def fail(_: Any) -> Any:
        error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        error.error_code = 700
        raise error

    monkeypatch.setattr(backend, "_network", fail)
    with pytest.raises(BackendLost, match="is lost: CUDA error: an illegal memory access"):
        backend.run(ModelInput(photo(1, 3, 8, 8)))


def test_a_gpu_that_is_not_there_is_named(weights_artifact: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BackendUnavailable, match="there is no cuda:3: the last of this machine's GPUs is cuda:1"):
        backend_of(weights_artifact(), devices=("cuda:0", "cuda:3"), device="cuda:3").start()


def test_without_a_start_or_after_the_stop_it_does_not_run(weights_artifact: Make) -> None:
    backend = backend_of(weights_artifact())
    backend.stop()
    for _ in range(2):
        with pytest.raises(BackendError, match="not started"):
            backend.run(ModelInput(photo(1, 3, 8, 8)))
        backend.start()
        backend.stop()


def test_a_run_that_is_begun_answers_like_a_plain_one_and_the_cpu_claims_no_more(weights_artifact: Make) -> None:
    backend = backend_of(weights_artifact())
    assert not backend.start().can_begin_ahead
    batches = [photo(1, 3, 8, 8), photo(2, 3, 16, 8)]
    pending = [backend.begin(ModelInput(batch)) for batch in batches]
    for run, batch in zip(pending, batches, strict=True):
        np.testing.assert_array_equal(run.result().pixels, backend.run(ModelInput(batch)).pixels)


@pytest.mark.parametrize(
    ("code", "kind"), [(700, BackendLost), (719, BackendLost), (1, BackendError), (None, BackendError)]
)
def test_a_device_that_failed_for_good_is_told_from_a_run_that_failed(
    weights_artifact: Make, monkeypatch: pytest.MonkeyPatch, code: int | None, kind: type[BackendError]
) -> None:
    class FaultError(RuntimeError):
        error_code = code

    def synchronize() -> None:
        if code is not None:
            raise FaultError("CUDA error: an illegal memory access was encountered\nadvice of several lines")

    backend = backend_of(weights_artifact())
    backend.start()
    monkeypatch.setattr(backend, "_copies", object())  # as on CUDA, where a library under torch gives no code
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(BackendError) as caught:
        backend.run(ModelInput(photo(1, 3, 8, 8)))
    assert type(caught.value) is kind
    assert "advice" not in caught.value.detail
