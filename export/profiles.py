"""Shape profiles that a plan is built for, within TensorRT's tensor size limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference
from onnx.reference import ReferenceEvaluator
from onnx.utils import Extractor
from pydantic import ValidationError

from models.plan_manifest import Extent, ShapeProfile
from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE

ELEMENT_LIMIT = 2**31 - 1
"""Largest number of elements in a TensorRT tensor. The builder accepts larger profiles, but runs then fail."""

DEFAULT_PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(4, 256, 256), max=(8, 512, 512)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 1024, 1024), max=(1, 1448, 2896)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 1024, 1024), max=(1, 2896, 1448)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 600, 3000), max=(1, 720, 5824)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 3000, 600), max=(1, 5824, 720)),
)
"""Small images in batches, large ones alone: wide, tall, and panoramas of both kinds.

A profile is a rectangle of sizes, and its largest image must stay below the element limit, so one profile cannot hold
both 1448x1448 and 4096x512. These hold every image of up to 2 097 152 pixels, which a GPU restores whole by default,
with sides of up to 5824.
"""


class ProfileError(ValueError):
    """Shape profile that no plan can be built for; the message is one sentence for a user."""


@dataclass(frozen=True)
class WidestTensor:
    """Tensor of a graph with the most elements at a given extent."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def parse_profile(text: str) -> ShapeProfile:
    """Parse MIN:OPT:MAX, such as `1x64x64:1x512x512:4x512x512` (extents are NxHxW); raise `ProfileError` if invalid."""
    try:
        low, best, high = (tuple(int(axis) for axis in extent.split("x")) for extent in text.split(":"))
        return ShapeProfile.model_validate({"min": low, "opt": best, "max": high})
    except ValidationError as error:
        raise ProfileError(f"profile {text!r}: {error.errors()[0]['msg']}") from None
    except ValueError:
        raise ProfileError(
            f"profile {text!r} is not MIN:OPT:MAX, each as batch x height x width, such as 1x64x64:1x512x512:4x512x512"
        ) from None


def check_profiles(model: Path, profiles: Sequence[ShapeProfile], size_multiple: int = SIZE_MULTIPLE) -> None:
    """Check that the graph in `model` can run the profiles; raise `ProfileError` naming the largest allowed shape."""
    if not profiles:
        raise ProfileError("a plan needs at least one shape profile")
    graph = onnx.load(model)
    for profile in profiles:
        for extent in (profile.min, profile.opt, profile.max):
            if any(side % size_multiple for side in extent[1:]):
                raise ProfileError(f"profile {profile}: height and width must be multiples of {size_multiple}")
        _check_elements(profile, widest_tensor(graph, profile.max), size_multiple)


def widest_tensor(graph: onnx.ModelProto, extent: Extent) -> WidestTensor:
    """Return the tensor of `graph` with the most elements for an input of (n, 3, h, w); `graph` is not modified.

    Raises `ProfileError` if the size of any tensor cannot be inferred, because that tensor could be the largest.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    batch, height, width = extent
    axes = fixed.graph.input[0].type.tensor_type.shape.dim
    for axis, size in zip(axes, (batch, IMAGE_CHANNELS, height, width), strict=True):
        axis.dim_value = size
    for sides in fixed.graph.input[1:]:  # sizes of a masked model: one per image
        sides.type.tensor_type.shape.dim[0].dim_value = batch
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")  # its dynamic axes would hide the inferred shape
    _tell_ranges(fixed)
    inferred = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    shapes = {value.name: _fixed_shape(value) for value in (*inferred.value_info, *inferred.output)}
    names = [name for node in inferred.node for name in node.output if name]
    unknown = [name for name in names if shapes.get(name) is None]
    if unknown:
        raise ProfileError(f"the size of tensor {unknown[0]!r} cannot be inferred from the input, so no limit is known")
    candidates = (WidestTensor(name, shape) for name in names if (shape := shapes[name]) is not None)
    return max(candidates, key=lambda tensor: tensor.elements)


def _tell_ranges(fixed: onnx.ModelProto) -> None:
    """Set the length of every `Range` in a model with fixed inputs: shape inference does not evaluate floats."""
    names = [node.output[0] for node in fixed.graph.node if node.op_type == "Range"]
    if not names:
        return
    image = fixed.graph.input[0]
    sides = Extractor(fixed).extract_model([image.name], names)
    pixels = np.broadcast_to(np.float32(0), [axis.dim_value for axis in image.type.tensor_type.shape.dim])
    for name, values in zip(names, ReferenceEvaluator(sides).run(None, {image.name: pixels}), strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        fixed.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, values.shape))


def _fixed_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    axes = value.type.tensor_type.shape.dim
    return tuple(axis.dim_value for axis in axes) if all(axis.HasField("dim_value") for axis in axes) else None


def _check_elements(profile: ShapeProfile, widest: WidestTensor, size_multiple: int) -> None:
    if widest.elements <= ELEMENT_LIMIT:
        return
    batch, height, width = profile.max
    # The largest tensor at this size scales with the pixels: full-resolution features do, prompts and attention do not.
    allowed_pixels = ELEMENT_LIMIT * math.prod(profile.max) // widest.elements
    side = math.isqrt(allowed_pixels // batch) // size_multiple * size_multiple
    allowed = [f"{batch}x{side}x{side}"]
    if allowed_batch := allowed_pixels // (height * width):
        allowed.append(f"{allowed_batch}x{height}x{width}")
    raise ProfileError(
        f"profile {profile} is too large: tensor {widest.name!r} of {'x'.join(map(str, widest.shape))} has "
        f"{widest.elements:,} elements and TensorRT indexes at most {ELEMENT_LIMIT:,}; "
        f"the largest allowed shape is {' or '.join(allowed)}"
    )
