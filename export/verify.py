"""Parity: how far exported models are from the PyTorch network they came from."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from export.comparison import Answer, Comparison, Pixels, compare_answers
from export.plan_model import PlanModel, open_plan
from export.samples import Sample, mixes, noise_samples
from export.shapes import Size, extent_of
from models.artifact import MODEL_FILE, Manifest, Parity, Precision
from models.plan_manifest import PLAN_FILE, PlanManifest, ShapeProfile
from models.restoration import RestorationNetwork, WithFindings

WARNINGS_AND_ERRORS_OFF = 3
"""ONNX Runtime's log level: its remarks on the graph are not for the person who exports."""

Candidate = Callable[[Pixels], Answer]
"""What runs a model, on any runtime: a batch (N, 3, H, W) in, its answer out, blocking."""
MaskedCandidate = Callable[[Pixels, Sequence[Size]], Answer]
"""The same of a canvas (N, 3, H, W) with images of (height, width) each in its top left corner."""

logger = logging.getLogger(__name__)


class ParityError(ValueError):
    """An exported model that does not compute what the network computes; the message is one sentence for a user."""


@dataclass(frozen=True)
class Gate:
    """What an exported model must reach on every sample; values that are not finite never pass."""

    max_abs_error: float = math.inf
    min_psnr_db: float = -math.inf
    max_prompt_weights_error: float = math.inf

    def complaint(self, found: Comparison) -> str | None:
        """What is wrong with `found`, to be read after "the model"; None if it passes."""
        # Written so that NaN fails every comparison.
        if math.isfinite(self.max_abs_error) and not found.max_abs_error <= self.max_abs_error:
            return f"is off by {found.max_abs_error:.3g}; the tolerance is {self.max_abs_error:.0e}"
        if not found.psnr_db >= self.min_psnr_db:
            return f"reaches {found.psnr_db:.1f} dB against float32; the gate is {self.min_psnr_db:.0f} dB"
        if found.non_finite:
            return f"gives {found.non_finite} values that are not finite"
        if (error := found.prompt_weights_error) is not None and not error <= self.max_prompt_weights_error:
            return f"weighs a prompt wrong by {error:.3g}; the tolerance is {self.max_prompt_weights_error:g}"
        return None


GATES: dict[Precision, Gate] = {
    # A sound export stays below 1e-5 in both.
    "fp32": Gate(max_abs_error=1e-4, max_prompt_weights_error=1e-4),
    # 40 dB above the error that a viewer sees; a sound export is at 70 to 85, and weighs prompts to 0.002.
    "mixed": Gate(min_psnr_db=50.0, max_prompt_weights_error=0.02),
}


@dataclass(frozen=True)
class Model:
    """A loaded model: its name in a report, what runs it, and the profiles it is bound to; none takes every shape."""

    name: str
    run: Candidate
    profiles: tuple[ShapeProfile, ...] = ()
    run_masked: MaskedCandidate | None = None
    """Of a masked model: several sizes in one canvas."""

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it runs a batch (N, 3, H, W)."""
        return not self.profiles or any(profile.holds(extent_of(shape)) for profile in self.profiles)


@dataclass(frozen=True)
class Measurement:
    """One model's comparison on one sample."""

    model: Model
    sample: str
    shape: tuple[int, ...]
    comparison: Comparison
    canvas: Size | None = None
    """What the image shared with others."""


def verify(
    network: RestorationNetwork, model: Path, gate: Gate = GATES["fp32"], size_inputs: tuple[str, str] | None = None
) -> tuple[Parity, ...]:
    """Run float32 `network` and the ONNX file `model` on every verification shape; see `parity_of`.

    One with `size_inputs` is masked: each image of every mix of sizes is compared with its run alone as well.
    """
    return parity_of(network, open_onnx_model(MODEL_FILE, model, size_inputs), noise_samples(), gate)


def parity_of(network: RestorationNetwork, model: Model, samples: Iterable[Sample], gate: Gate) -> tuple[Parity, ...]:
    """Run float32 `network` and `model` on every sample.

    `ParityError` names the first shape whose answer does not pass `gate` or has another shape.
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
                canvas=measured.canvas,
            )
        )
    return tuple(parity)


def measure(network: RestorationNetwork, models: Sequence[Model], samples: Iterable[Sample]) -> Iterator[Measurement]:
    """Compare each model with float32 `network` on each sample that it takes, as soon as it is asked for."""
    for sample in samples:
        shape = sample.pixels.shape
        taking = [model for model in models if model.takes(shape)]
        if not taking:
            logger.info("skipped %s: no profile takes %s", sample.name, shape_name(shape))
            continue
        expected = _answer(network, sample.pixels)
        for model in taking:
            found = model.run(sample.pixels)
            _check_shapes(found, expected, shape)
            yield Measurement(model, sample.name, shape, compare_answers(found, expected))


def measure_mixes(network: RestorationNetwork, models: Sequence[Model]) -> Iterator[Measurement]:
    """Compare what each masked model makes of each image of a mix of sizes with what `network` makes of it alone."""
    for model in models:
        if model.run_masked is None:
            continue
        for mix in mixes():
            if not model.takes(mix.pixels.shape):
                continue
            canvas = mix.pixels.shape[2], mix.pixels.shape[3]
            restored, weights = model.run_masked(mix.pixels, mix.sizes)
            for index, (height, width) in enumerate(mix.sizes):
                one = slice(index, index + 1)
                image = np.ascontiguousarray(mix.pixels[one, :, :height, :width])
                found = Answer(restored[one, :, :height, :width], None if weights is None else weights[one])
                expected = _answer(network, image)
                _check_shapes(found, expected, image.shape)
                comparison = compare_answers(found, expected)
                yield Measurement(model, f"in {shape_name(canvas)}", image.shape, comparison, canvas)


def _answer(network: RestorationNetwork, pixels: Pixels) -> Answer:
    with torch.inference_mode():
        return Answer(*(tensor.numpy() for tensor in WithFindings(network)(torch.from_numpy(pixels))))


def _check_shapes(found: Answer, expected: Answer, shape: tuple[int, ...]) -> None:
    for got, wanted in zip(found, expected, strict=True):
        if got is not None and wanted is not None and got.shape != wanted.shape:
            raise ParityError(
                f"the exported model answers {shape_name(shape)} with {shape_name(got.shape)} "
                f"instead of {shape_name(wanted.shape)}"
            )


def open_artifact(folder: Path) -> tuple[Manifest, Model]:
    """The checked manifest of the artifact in `folder`, and its model, loaded; `ValueError` says what is wrong.

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
    """A loaded plan, plain or masked."""
    return Model(name, plan, manifest.profiles, plan.run_masked if manifest.size_inputs else None)


def open_onnx_model(name: str, model: Path, size_inputs: tuple[str, str] | None) -> Model:
    """The ONNX file `model`, plain or masked, on the CPU."""
    if size_inputs is None:
        return Model(name, open_onnx(model))
    run_masked = open_masked_onnx(model, size_inputs)
    return Model(name, lambda batch: run_masked(batch, [batch.shape[2:]] * len(batch)), run_masked=run_masked)


def open_masked_onnx(model: Path, size_inputs: tuple[str, str]) -> MaskedCandidate:
    """The masked ONNX file `model` on the CPU."""
    session = _open_session(model)
    image, *found = [node.name for node in session.get_inputs()]
    if found != list(size_inputs):
        raise ParityError(f"the exported model's further inputs are {found} instead of {list(size_inputs)}")

    def run(canvas: Pixels, sizes: Sequence[Size]) -> Answer:
        sides = np.array(sizes, np.int64).T
        return Answer(*session.run(None, {image: canvas, **dict(zip(size_inputs, sides, strict=True))}))

    return run


def open_onnx(model: Path) -> Candidate:
    """The ONNX file `model` on the CPU."""
    session = _open_session(model)
    name = session.get_inputs()[0].name

    def run(batch: Pixels) -> Answer:
        return Answer(*session.run(None, {name: batch}))

    return run


def shape_name(shape: tuple[int, ...]) -> str:
    """A shape as it is shown, such as 1x3x64x64."""
    return "x".join(map(str, shape))


def _open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_AND_ERRORS_OFF
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
