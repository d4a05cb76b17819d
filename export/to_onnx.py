"""The ONNX export: a weights file becomes a verified artifact folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime
import onnxslim
import torch

from export.shapes import TRACE_SHAPE
from export.staging import staged
from export.verify import verify
from models.artifact import MODEL_FILE, Manifest, sha256_of
from models.checkpoint import load_network
from models.promptir import SIZE_MULTIPLE, PromptIR, PromptIRConfig

INPUT_NAME = "image"
OUTPUT_NAME = "restored"
DYNAMIC_AXES = {0: "n", 2: "h", 3: "w"}

OPSETS = (17, 18, 19, 20)
"""17 is the first with LayerNormalization; the legacy tracer writes none above 20."""
DEFAULT_OPSET = 17

logger = logging.getLogger(__name__)


def export_onnx(weights: Path, variant: str, output: Path, opset: int = DEFAULT_OPSET) -> Manifest:
    """Write the artifact folder `output` from the `variant` network with the weights in `weights`.

    The folder appears only once the model file agrees with PyTorch at every verification shape. `ValueError` for an
    unknown variant or opset, and its subclasses `CheckpointError`, `ParityError` and `OutputFolderError`.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset {opset} cannot be exported; choose one of {', '.join(map(str, OPSETS))}")
    config = PromptIRConfig.named(variant)
    logger.info("loading %s", weights)
    network = load_network(weights, config)
    with staged(output) as staging:
        model = staging / MODEL_FILE
        logger.info("tracing %s at opset %d", variant, opset)
        trace(network, model, opset)
        logger.info("simplifying the graph")
        simplify(model)
        manifest = Manifest(
            name=output.resolve().name,
            variant=variant,
            input_name=INPUT_NAME,
            output_name=OUTPUT_NAME,
            size_multiple=SIZE_MULTIPLE,
            precision="fp32",
            opset=opset,
            sha256=sha256_of(model),
            weights_sha256=sha256_of(weights),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            parity=verify(network, model),
            exporter={library.__name__: library.__version__ for library in (torch, onnx, onnxruntime, onnxslim)},
        )
        manifest.save(staging)
    return manifest


def trace(network: PromptIR, model: Path, opset: int) -> None:
    """Write `network` as an ONNX file with free batch, height and width.

    The legacy tracer names those axes n, h and w and is some forty times faster than its successor on this network.
    """
    with _without_tracer_deprecations():
        torch.onnx.export(
            network,
            (torch.zeros(TRACE_SHAPE),),
            model,
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: DYNAMIC_AXES, OUTPUT_NAME: DYNAMIC_AXES},
        )


def simplify(model: Path) -> None:
    """Fold constants and shape arithmetic of the ONNX file `model` in place."""
    onnx.save(onnxslim.slim(onnx.load(model)), model)


@contextmanager
def _without_tracer_deprecations() -> Iterator[None]:
    # The legacy tracer is chosen on purpose and torch is pinned, so its deprecation is nothing a user can act on.
    with warnings.catch_warnings():
        for message in ("You are using the legacy TorchScript-based ONNX export", "The feature will be removed"):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        yield
