"""Parity of exported models with the PyTorch network they were exported from."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from export.comparison import Comparison, ModelOutput, Pixels, compare_outputs
from export.plan_model import PlanModel, open_plan
from export.samples import Sample, mixes, noise_samples
from export.shapes import Size, extent_of
from models.artifact import MODEL_FILE, Manifest, Parity, Precision
from models.plan_manifest import PLAN_FILE, PlanManifest, ShapeProfile
from models.restoration import RestorationNetwork, WithFindings

WARNINGS_AND_ERRORS_OFF = 3
"""ONNX Runtime log level; its notes on the graph are irrelevant to users of the export."""

Candidate = Callable[[Pixels], ModelOutput]
"""Runs a batch (N, 3, H, W) on any runtime; blocking."""
MaskedCandidate = Callable[[Pixels, Sequence[Size]], ModelOutput]
"""Runs a padded batch (N, 3, H, W) whose images of each (height, width) are in the top left corners."""

logger = logging.getLogger(__name__)


class ParityError(ValueError):
    """Exported model whose outputs differ from the network's; the message is one sentence for a user."""


@dataclass(frozen=True)
class Gate:
    """Thresholds that an exported model must meet on every sample; non-finite values always fail."""

    max_abs_error: float = math.inf
    min_psnr_db: float = -math.inf
    max_prompt_weights_error: float = math.inf

    def complaint(self, found: Comparison) -> str | None:
        """Return why `found` fails, as a phrase that follows "the model"; None if it passes."""
        # Written so that NaN fails every comparison.
        if math.isfinite(self.max_abs_error) and not found.max_abs_error <= self.max_abs_error:
            return f"is off by {found.max_abs_error:.3g}; the tolerance is {self.max_abs_error:.0e}"
        if not found.psnr_db >= self.min_psnr_db:
            return f"reaches {found.psnr_db:.1f} dB against float32; the gate is {self.min_psnr_db:.0f} dB"
        if found.non_finite:
            return f"gives {found.non_finite} values that are not finite"
        if (error := found.prompt_weights_error) is not None and not error <= self.max_prompt_weights_error:
            return f"has a prompt weight off by {error:.3g}; the tolerance is {self.max_prompt_weights_error:g}"
        return None


GATES: dict[Precision, Gate] = {
    # A correct export stays below 1e-5 in both.
    "fp32": Gate(max_abs_error=1e-4, max_prompt_weights_error=1e-4),
    # 40 dB above a visible error; a correct export has 70 to 85 dB and prompt weights within 0.002.
    "mixed": Gate(min_psnr_db=50.0, max_prompt_weights_error=0.02),
}


@dataclass(frozen=True)
class Model:
    """Loaded model, with its name in reports and its profiles (none: accepts every shape)."""

    name: str
    run: Candidate
    profiles: tuple[ShapeProfile, ...] = ()
    run_masked: MaskedCandidate | None = None
    """Runs a mixed-size batch; None unless the model is masked."""

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Return whether the model accepts a batch (N, 3, H, W)."""
        return not self.profiles or any(profile.holds(extent_of(shape)) for profile in self.profiles)


@dataclass(frozen=True)
class Measurement:
    """Comparison of one model on one sample."""

    model: Model
    sample: str
    shape: tuple[int, ...]
    comparison: Comparison
    padded_shape: Size | None = None
    """(height, width) of the mixed-size batch of the image; None if it ran alone."""


def verify(
    network: RestorationNetwork, model: Path, gate: Gate = GATES["fp32"], size_inputs: tuple[str, str] | None = None
) -> tuple[Parity, ...]:
    """Run float32 `network` and the ONNX file `model` on every verification shape; see `parity_of`.

    A model with `size_inputs` is masked: each image in a mixed-size batch is also compared with a run of its own.
    """
    return parity_of(network, open_onnx_model(MODEL_FILE, model, size_inputs), noise_samples(), gate)


def parity_of(network: RestorationNetwork, model: Model, samples: Iterable[Sample], gate: Gate) -> tuple[Parity, ...]:
    """Run float32 `network` and `model` on every sample and return the errors.

    Raises `ParityError` naming the first shape whose output fails `gate` or has another shape.
    """
    parity = []
    for measured in chain(measure(network, [model], samples), measure_mixes(network, [model])):
        found, shape = measured.comparison, measured.shape
        logger.info("verified %s: max abs error %.1e, %.1f dB", shape_name(shape), found.max_abs_error, found.psnr_db)
        if complaint := gate.complaint(found):
            raise ParityError(f"the exported model {complaint}, with an input of {shape_name(shape)}")
        parity.append(
            Parity(
                shape=shape,
                max_abs_error=found.max_abs_error,
                psnr_db=found.psnr_db,
                prompt_weights_error=found.prompt_weights_error,
                padded_shape=measured.padded_shape,
            )
        )
    return tuple(parity)


def measure(network: RestorationNetwork, models: Sequence[Model], samples: Iterable[Sample]) -> Iterator[Measurement]:
    """Compare each model with float32 `network` on each sample it accepts, lazily."""
    for sample in samples:
        shape = sample.pixels.shape
        taking = [model for model in models if model.accepts(shape)]
        if not taking:
            logger.info("skipped %s: no profile accepts %s", sample.name, shape_name(shape))
            continue
        expected = _output_of(network, sample.pixels)
        for model in taking:
            found = model.run(sample.pixels)
            _check_shapes(found, expected, shape)
            yield Measurement(model, sample.name, shape, compare_outputs(found, expected))


def measure_mixes(network: RestorationNetwork, models: Sequence[Model]) -> Iterator[Measurement]:
    """Compare each masked model's output for each image of a mixed-size batch with `network` run on that image."""
    for model in models:
        if model.run_masked is None:
            continue
        for mix in mixes():
            if not model.accepts(mix.pixels.shape):
                continue
            padded_shape = mix.pixels.shape[2], mix.pixels.shape[3]
            restored, weights = model.run_masked(mix.pixels, mix.sizes)
            for index, (height, width) in enumerate(mix.sizes):
                one = slice(index, index + 1)
                image = np.ascontiguousarray(mix.pixels[one, :, :height, :width])
                found = ModelOutput(restored[one, :, :height, :width], None if weights is None else weights[one])
                expected = _output_of(network, image)
                _check_shapes(found, expected, image.shape)
                comparison = compare_outputs(found, expected)
                yield Measurement(model, f"in {shape_name(padded_shape)}", image.shape, comparison, padded_shape)


def _output_of(network: RestorationNetwork, pixels: Pixels) -> ModelOutput:
    with torch.inference_mode():
        return ModelOutput(*(tensor.numpy() for tensor in WithFindings(network)(torch.from_numpy(pixels))))


def _check_shapes(found: ModelOutput, expected: ModelOutput, shape: tuple[int, ...]) -> None:
    for got, wanted in zip(found, expected, strict=True):
        if got is not None and wanted is not None and got.shape != wanted.shape:
            raise ParityError(
                f"the exported model returns {shape_name(got.shape)} for {shape_name(shape)} "
                f"instead of {shape_name(wanted.shape)}"
            )


def open_artifact(folder: Path) -> tuple[Manifest, Model]:
    """Load the artifact in `folder` and check its manifest; raise `ValueError` if anything is wrong.

    An ONNX file runs on the CPU, a plan on the first visible GPU.
    """
    if (folder / PLAN_FILE).exists():
        plan = PlanManifest.load(folder)
        plan.verify(folder)
        return plan, model_of_plan(f"{plan.precision} {PLAN_FILE}", open_plan(folder, plan), plan)
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    name = f"{manifest.precision} {MODEL_FILE}"
    return manifest, open_onnx_model(name, folder / MODEL_FILE, manifest.size_inputs)


def model_of_plan(name: str, plan: PlanModel, manifest: PlanManifest) -> Model:
    """Wrap a loaded plan, masked or not."""
    return Model(name, plan, manifest.profiles, plan.run_masked if manifest.size_inputs else None)


def open_onnx_model(name: str, model: Path, size_inputs: tuple[str, str] | None) -> Model:
    """Load the ONNX file `model`, masked or not, on the CPU."""
    if size_inputs is None:
        return Model(name, open_onnx(model))
    run_masked = open_masked_onnx(model, size_inputs)
    return Model(name, lambda batch: run_masked(batch, [batch.shape[2:]] * len(batch)), run_masked=run_masked)


def open_masked_onnx(model: Path, size_inputs: tuple[str, str]) -> MaskedCandidate:
    """Load the masked ONNX file `model` on the CPU."""
    session = _open_session(model)
    image, *found = [node.name for node in session.get_inputs()]
    if found != list(size_inputs):
        raise ParityError(f"the exported model's additional inputs are {found} instead of {list(size_inputs)}")

    def run(padded: Pixels, sizes: Sequence[Size]) -> ModelOutput:
        sides = np.array(sizes, np.int64).T
        return ModelOutput(*session.run(None, {image: padded, **dict(zip(size_inputs, sides, strict=True))}))

    return run


def open_onnx(model: Path) -> Candidate:
    """Load the ONNX file `model` on the CPU."""
    session = _open_session(model)
    name = session.get_inputs()[0].name

    def run(batch: Pixels) -> ModelOutput:
        return ModelOutput(*session.run(None, {name: batch}))

    return run


def shape_name(shape: tuple[int, ...]) -> str:
    """Format a shape, such as 1x3x64x64."""
    return "x".join(map(str, shape))


def _open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_AND_ERRORS_OFF
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # PyTorch runs in turn on the same cores
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
