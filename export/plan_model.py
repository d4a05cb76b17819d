"""Blocking inference with a TensorRT plan on the local GPU, to compare it with its network."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.build_log import create_build_log
from export.comparison import ModelOutput, Pixels
from export.shapes import Size
from export.tensorrt_library import load_tensorrt
from models.nvidia_gpu import find_device
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest
from models.tensorrt_faults import NO_USABLE_DEVICE, creation_fault, plan_fault


class PlanRunError(ValueError):
    """Plan that cannot run on this machine, or whose run failed; the message is one sentence for a user."""


class PlanModel:
    """Runs batches on one execution context, with torch tensors as buffers.

    Independent of the server's backend: optimised for simplicity, not for throughput.
    """

    def __init__(self, manifest: PlanManifest, context: Any, device: torch.device, errors: Sequence[str] = ()) -> None:
        self._manifest = manifest
        self._context = context
        self._device = device
        self._errors = errors

    def __call__(self, batch: Pixels) -> ModelOutput:
        """Restore (N, 3, H, W); raise `PlanRunError` if TensorRT fails, `ShapeOutsideProfiles` if no profile fits."""
        return self.run_masked(batch, [batch.shape[2:]] * len(batch))

    def run_masked(self, padded: Pixels, sizes: Sequence[Size]) -> ModelOutput:
        """Restore images of (height, width) `sizes` in the top left corners; an unmasked plan ignores the sizes.

        Raises the same errors as `__call__`.
        """
        sides = zip(*sizes, strict=True) if self._manifest.size_inputs else ()
        tensors = (torch.tensor(side, device=self._device) for side in sides)
        outputs = self.run(torch.from_numpy(padded).to(self._device), *tensors)
        return ModelOutput(*(tensor.cpu().numpy() for tensor in outputs))

    def run(self, image: Tensor, *sides: Tensor) -> list[Tensor]:
        """Restore contiguous device tensors and return device tensors, queued on torch's current stream.

        Raises the same errors as `__call__`.
        """
        manifest, context = self._manifest, self._context
        inputs = {manifest.input_name: image, **dict(zip(manifest.size_inputs or (), sides, strict=True))}
        count, _, height, width = shape = tuple(image.shape)
        profile = manifest.profile_for((count, height, width))
        outputs = {manifest.output_name: torch.empty_like(image)}
        if prompt := manifest.prompt_output:
            outputs[prompt.name] = image.new_empty((count, *prompt.shape))
        stream = torch.cuda.current_stream().cuda_stream if self._device.type == "cuda" else 0
        ran = (
            context.set_optimization_profile_async(profile, stream)
            and all(context.set_input_shape(name, tuple(tensor.shape)) for name, tensor in inputs.items())
            and all(context.set_tensor_address(name, each.data_ptr()) for name, each in (inputs | outputs).items())
            and context.execute_async_v3(stream)
        )
        if not ran:
            raise PlanRunError(f"TensorRT failed on a batch of {'x'.join(map(str, shape))}: {_reason(self._errors)}")
        return list(outputs.values())


def open_plan(folder: Path, manifest: PlanManifest) -> PlanModel:
    """Load the plan in `folder` on the first visible GPU.

    Raises `PlanRunError` if there is no GPU or the plan does not load on it, `TensorRTUnavailable`, and `ArtifactError`
    for a plan of another version or device.
    """
    trt = load_tensorrt()
    device = find_device()
    if device is None:
        raise PlanRunError(NO_USABLE_DEVICE)
    manifest.check_runtime(trt.__name__, trt.__version__, device.compute_capability)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an old driver; the error below covers it
        if not torch.cuda.is_available():
            raise PlanRunError(
                f"torch {torch.__version__} cannot use the {device.name}; install a build for its driver"
            )
    errors: list[str] = []
    engine = load_engine(trt, (folder / PLAN_FILE).read_bytes(), manifest.options, errors)
    context = engine.create_execution_context()
    if context is None:
        raise PlanRunError(f"TensorRT cannot run the plan on the {device.name}: {_reason(errors)}")
    return PlanModel(manifest, context, torch.device("cuda"), errors)


def load_engine(trt: Any, plan: Any, options: BuildOptions, errors: list[str]) -> Any:
    """Deserialise a plan, appending the library's messages to `errors`; raise `PlanRunError` on failure."""
    log = create_build_log(trt, errors)
    try:
        runtime = trt.Runtime(log)
    except TypeError as error:
        raise PlanRunError(creation_fault(error)) from error
    if options.version_compatible:  # the plan contains its own runtime; it is new or hash-checked, so it is trusted
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:  # the library raises no exception here
        raise PlanRunError(plan_fault(errors))
    return engine


def _reason(errors: Sequence[str]) -> str:
    return "; ".join(errors) or "it gave no reason"
