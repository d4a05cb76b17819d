"""Parity: how far an exported model is from the PyTorch network it came from."""

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.shapes import VERIFICATION_SHAPES, Shape
from models.artifact import Parity
from models.promptir import PromptIR

FP32_TOLERANCE = 1e-4
"""Largest accepted absolute difference, for a signal range of 1; a sound export stays below 1e-5."""

INPUT_SEED = 20240101
WARNINGS_AND_ERRORS_OFF = 3
"""ONNX Runtime's log level: its remarks on the graph are not for the person who exports."""

logger = logging.getLogger(__name__)


class ParityError(ValueError):
    """An exported model that does not compute what the network computes; the message is one sentence for a user."""


def verify(network: PromptIR, model: Path, tolerance: float = FP32_TOLERANCE) -> tuple[Parity, ...]:
    """Run `network` and the ONNX file `model` on every verification shape.

    `ParityError` names the first shape whose outputs differ by more than `tolerance`, are not finite or have another
    shape.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = WARNINGS_AND_ERRORS_OFF
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    parity = []
    for shape in VERIFICATION_SHAPES:
        error = _max_abs_error(network, session, shape)
        logger.info("verified %s: max abs error %.1e", "x".join(map(str, shape)), error)
        if not error <= tolerance:  # written so that NaN fails too
            raise ParityError(f"the exported model is off by {error:.3g} at {shape}; the tolerance is {tolerance:.0e}")
        parity.append(Parity(shape=shape, max_abs_error=error))
    return tuple(parity)


def _max_abs_error(network: PromptIR, session: onnxruntime.InferenceSession, shape: Shape) -> float:
    image = np.random.default_rng(INPUT_SEED).random(shape, dtype=np.float32)
    with torch.inference_mode():
        expected: NDArray[np.float32] = network(torch.from_numpy(image)).numpy()
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    if found.shape != shape:
        raise ParityError(f"the exported model answers {shape} with shape {found.shape}")
    return float(np.abs(found - expected).max())
