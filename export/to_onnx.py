"""ONNX export of a weights file into a verified artifact folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime
import onnxslim
import torch

from export.precision import check_precision
from export.shapes import TRACE_SHAPE
from export.staging import staged
from export.verify import GATES, verify
from models.artifact import MODEL_FILE, Manifest, Precision, PromptOutput, sha256_of
from models.checkpoint import load_network
from models.precision import to_float32, to_mixed
from models.restoration import SIZE_MULTIPLE, RestorationNetwork, WithFindings
from models.variants import variant as named_variant

INPUT_NAME = "image"
OUTPUT_NAME = "restored"
PROMPT_OUTPUT_NAME = "prompt_weights"
DYNAMIC_AXES = {0: "n", 2: "h", 3: "w"}
SIZE_INPUT_NAMES = ("height", "width")

OPSETS = (17, 18, 19, 20)
"""17 is the first with LayerNormalization; the legacy tracer supports up to 20."""
DEFAULT_OPSET = 17

logger = logging.getLogger(__name__)


def export_onnx(
    weights: Path,
    variant: str,
    output: Path,
    opset: int = DEFAULT_OPSET,
    precision: Precision = "fp32",
    *,
    masked: bool = False,
) -> Manifest:
    """Write the artifact folder `output` from the `variant` network with the weights in `weights`.

    A `masked` model has inputs for each image's size, which allow mixed-size batches. The folder appears only after the
    model has passed the gate of its precision at every verification shape and, in mixed precision, the check against
    the precision table. Raises `ValueError` for an unknown variant or opset, and its subclasses `CheckpointError`,
    `ParityError`, `PrecisionError` and `OutputFolderError`.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset {opset} cannot be exported; choose one of {', '.join(map(str, OPSETS))}")
    config = named_variant(variant)
    logger.info("loading %s", weights)
    network = load_network(weights, config)
    with staged(output) as staging:
        model = staging / MODEL_FILE
        logger.info("tracing %s in %s precision at opset %d", variant, precision, opset)
        trace(to_mixed(network) if precision == "mixed" else to_float32(network), model, opset, masked=masked)
        logger.info("simplifying the graph")
        simplify(model)
        if precision == "mixed":
            check_precision(onnx.load(model))
        manifest = Manifest(
            name=output.resolve().name,
            variant=variant,
            input_name=INPUT_NAME,
            output_name=OUTPUT_NAME,
            size_inputs=SIZE_INPUT_NAMES if masked else None,
            prompt_output=_prompt_output(network),
            size_multiple=SIZE_MULTIPLE,
            precision=precision,
            opset=opset,
            sha256=sha256_of(model),
            weights_sha256=sha256_of(weights),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            parity=verify(network, model, GATES[precision], SIZE_INPUT_NAMES if masked else None),
            exporter={library.__name__: library.__version__ for library in (torch, onnx, onnxruntime, onnxslim)},
        )
        manifest.save(staging)
    return manifest


def trace(network: RestorationNetwork, model: Path, opset: int, *, masked: bool = False) -> None:
    """Write `network` as an ONNX file with dynamic batch, height and width (axes n, h and w).

    A `masked` model also takes each image's size. The second output, if any, has the prompt weights and the
    degradations. The legacy tracer is about forty times faster than its successor on this network.
    """
    sizes = tuple(torch.full(TRACE_SHAPE[:1], side) for side in TRACE_SHAPE[2:]) if masked else ()
    size_names = SIZE_INPUT_NAMES if masked else ()
    output_names = [OUTPUT_NAME] if network.findings_shape is None else [OUTPUT_NAME, PROMPT_OUTPUT_NAME]
    with _without_tracer_deprecations():
        torch.onnx.export(
            WithFindings(network),
            (torch.zeros(TRACE_SHAPE), *sizes),
            model,
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT_NAME, *size_names],
            output_names=output_names,
            dynamic_axes={
                INPUT_NAME: DYNAMIC_AXES,
                OUTPUT_NAME: DYNAMIC_AXES,
                **{name: {0: "n"} for name in (*output_names[1:], *size_names)},
            },
        )


def _prompt_output(network: RestorationNetwork) -> PromptOutput | None:
    if network.findings_shape is None:
        return None
    levels, components = network.prompt_shape or (0, 0)
    labels = network.degradation_labels
    return PromptOutput(name=PROMPT_OUTPUT_NAME, levels=levels, components=components, labels=labels)


def simplify(model: Path) -> None:
    """Fold constants and shape arithmetic in the ONNX file `model`, in place."""
    onnx.save(onnxslim.slim(onnx.load(model)), model)


@contextmanager
def _without_tracer_deprecations() -> Iterator[None]:
    # Torch is pinned and the legacy tracer is a deliberate choice, so users cannot act on its deprecation warning.
    with warnings.catch_warnings():
        for message in ("You are using the legacy TorchScript-based ONNX export", "The feature will be removed"):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        yield
