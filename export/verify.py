"""Parity: how far exported models are from the PyTorch network they came from."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch

from export.comparison import Answer, Comparison, Pixels, compare_answers
from export.plan_model import open_plan
from export.samples import Sample, noise_samples
from export.shapes import extent_of
from models.artifact import MODEL_FILE, Manifest, Parity, Precision
from models.plan_manifest import PLAN_FILE, PlanManifest, ShapeProfile
from models.promptir import PromptIR

WARNINGS_AND_ERRORS_OFF = 3
"""ONNX Runtime's log level: its remarks on the graph are not for the person who exports."""

Candidate = Callable[[Pixels], Answer]
"""What runs a model, on any runtime: a batch (N, 3, H, W) in, its answer out, blocking."""

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


def verify(network: PromptIR, model: Path, gate: Gate = GATES["fp32"]) -> tuple[Parity, ...]:
    """Run float32 `network` and the ONNX file `model` on every verification shape; see `parity_of`."""
    return parity_of(network, Model(MODEL_FILE, open_onnx(model)), noise_samples(), gate)


def parity_of(network: PromptIR, model: Model, samples: Iterable[Sample], gate: Gate) -> tuple[Parity, ...]:
    """Run float32 `network` and `model` on every sample.

    `ParityError` names the first shape whose answer does not pass `gate` or has another shape.
    """
    parity = []
    for measured in measure(network, [model], samples):
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
            )
        )
    return tuple(parity)


def measure(network: PromptIR, models: Sequence[Model], samples: Iterable[Sample]) -> Iterator[Measurement]:
    """Compare each model with float32 `network` on each sample that it takes, as soon as it is asked for."""
    for sample in samples:
        shape = sample.pixels.shape
        taking = [model for model in models if model.takes(shape)]
        if not taking:
            logger.info("skipped %s: no profile takes %s", sample.name, shape_name(shape))
            continue
        with torch.inference_mode():
            expected = Answer(*(tensor.numpy() for tensor in network.weighed(torch.from_numpy(sample.pixels))))
        for model in taking:
            found = model.run(sample.pixels)
            for got, wanted in zip(found, expected, strict=True):
                if got is not None and wanted is not None and got.shape != wanted.shape:
                    raise ParityError(
                        f"the exported model answers {shape_name(shape)} with {shape_name(got.shape)} "
                        f"instead of {shape_name(wanted.shape)}"
                    )
            yield Measurement(model, sample.name, shape, compare_answers(found, expected))


def open_artifact(folder: Path) -> tuple[Manifest, Model]:
    """The checked manifest of the artifact in `folder`, and its model, loaded; `ValueError` says what is wrong.

    An ONNX file runs on the CPU, a plan on the first visible GPU.
    """
    if (folder / PLAN_FILE).exists():
        plan = PlanManifest.load(folder)
        plan.verify(folder)
        return plan, Model(f"{plan.precision} {PLAN_FILE}", open_plan(folder, plan), plan.profiles)
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    return manifest, Model(f"{manifest.precision} {MODEL_FILE}", open_onnx(folder / MODEL_FILE))


def open_onnx(model: Path) -> Candidate:
    """The ONNX file `model` on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_AND_ERRORS_OFF
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Pixels) -> Answer:
        return Answer(*session.run(None, {name: batch}))

    return run


def shape_name(shape: tuple[int, ...]) -> str:
    """A shape as it is shown, such as 1x3x64x64."""
    return "x".join(map(str, shape))
