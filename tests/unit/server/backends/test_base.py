"""Tests of what a backend is given and what it says about its model."""

import logging

import numpy as np
import pytest

from models.artifact import Manifest, Parity, PromptOutput
from server.backends.base import AuxOutput, BackendInfo, ModelInput, ModelSpec
from server.errors import BackendError

PIXELS = np.zeros((2, 3, 8, 16), np.float32)
MANIFEST = Manifest(
    name="tiny",
    variant="promptir-tiny",
    input_name="image",
    output_name="restored",
    size_multiple=8,
    precision="mixed",
    opset=17,
    sha256="ab" * 32,
    parameters=1,
    parity=(Parity(shape=(1, 3, 8, 8), max_abs_error=0.0),),
    exporter={},
)


def test_a_model_is_described_by_its_manifest() -> None:
    output = PromptOutput(name="prompt_weights", levels=3, components=5, labels=("noise", "haze"))
    full = MANIFEST.model_copy(update={"prompt_output": output, "size_inputs": ("height", "width")})
    assert ModelSpec.of(full) == ModelSpec(
        "tiny", "mixed", 8, hash="ab" * 32, channels=3, mixed_sizes=True, aux=AuxOutput((4, 5), ("noise", "haze"))
    )
    plain = ModelSpec.of(MANIFEST)
    assert (plain.aux, plain.labels, plain.mixed_sizes) == (None, (), False)


def test_images_without_sizes_of_their_own_have_that_of_the_batch() -> None:
    assert ModelInput(PIXELS).each_size.tolist() == [[8, 16], [8, 16]]
    sizes = np.array([(8, 8), (8, 16)], np.int64)
    assert ModelInput(PIXELS, sizes).each_size is sizes


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (ModelInput(PIXELS, np.full((2, 2), 8, np.int64)), "takes no validity mask"),
        (ModelInput(PIXELS, precision="fp32"), "holds plan in mixed only, and cannot run it in fp32"),
    ],
)
def test_a_batch_that_the_model_cannot_run_as_asked_is_refused(batch: ModelInput, words: str) -> None:
    model = ModelSpec("plan", "mixed", 8)
    with pytest.raises(BackendError, match=words):
        model.check(batch)
    model.check(ModelInput(batch.pixels))


def test_a_model_in_fp32_for_mixed_sizes_runs_all_of_them() -> None:
    ModelSpec("plan", "fp32", 8, mixed_sizes=True).check(ModelInput(PIXELS, np.full((2, 2), 8, np.int64), "fp32"))


def test_a_log_record_names_model_backend_and_device_and_clashes_with_no_field_of_its_own() -> None:
    info = BackendInfo(ModelSpec("tiny", "mixed", 8, hash="ab"), "onnx", "cpu", 4)
    record = logging.makeLogRecord({})
    assert not info.log_fields.keys() & vars(record).keys()
    assert info.log_fields == {
        "backend": "onnx",
        "device": "cpu",
        "artifact": "tiny",
        "model_hash": "ab",
        "precision": "mixed",
        "max_batch": 4,
        "mixed_sizes": False,
    }
