"""Build of a serialized TensorRT plan from an ONNX file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.build_log import create_build_log
from export.build_progress import BuildProgress, create_progress_monitor
from export.plan_model import PlanRunError, load_engine
from models.artifact import Manifest
from models.plan_manifest import BuildOptions, ShapeProfile
from models.restoration import IMAGE_CHANNELS
from models.tensorrt_faults import creation_fault, device_fault

MEBIBYTE = 2**20
SHOWN_ERRORS = 3
IO_DTYPE = "FLOAT"
IO_SHAPE = (-1, IMAGE_CHANNELS, -1, -1)
"""Batch, height and width are dynamic; casts to half precision are inside the model."""

logger = logging.getLogger(__name__)


class BuildError(ValueError):
    """Plan that cannot be built; the message is one sentence for a user."""


class PlanBuilder:
    """Parser and builder for one ONNX file, with Enterprise TensorRT or TensorRT-RTX as `trt`.

    Call `start`, then `parse`, then `build`. The network is strongly typed: the ONNX file fixes the precision and the
    builder may not change it.
    """

    def __init__(self, trt: Any) -> None:
        self._trt = trt
        self._failures: list[str] = []
        self._log: Any = None
        self._builder: Any = None
        self._network: Any = None
        self._size_inputs: tuple[str, ...] = ()

    def start(self) -> None:
        """Create the builder; raise `BuildError` if this library needs a GPU or driver and there is none."""
        self._log = create_build_log(self._trt, self._failures)
        try:
            self._builder = self._trt.Builder(self._log)
        except TypeError as error:
            raise BuildError(creation_fault(error)) from error

    def parse(self, model: Path, manifest: Manifest) -> Any:
        """Parse the ONNX file `model` into an `INetworkDefinition` and check its inputs and outputs against `manifest`.

        Raises `BuildError` naming the nodes that TensorRT does not support, or the tensor that differs from the
        manifest.
        """
        trt = self._trt
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # always on from 11.0
        network = self._builder.create_network(strongly_typed)
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse_from_file(str(model)):
            errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
            raise BuildError(f"TensorRT cannot parse {model}: {_shown(errors or self._failures)}")
        outputs: dict[str, tuple[int, ...]] = {manifest.output_name: IO_SHAPE}
        if prompt := manifest.prompt_output:
            outputs[prompt.name] = (-1, *prompt.shape)
        image, *sizes = [network.get_input(i) for i in range(network.num_inputs)]
        _check_tensors("input", [image], {manifest.input_name: IO_SHAPE})
        if (found := tuple(tensor.name for tensor in sizes)) != (manifest.size_inputs or ()):
            raise BuildError(f"the model's additional inputs are {found}, but its manifest says {manifest.size_inputs}")
        _check_tensors("output", [network.get_output(i) for i in range(network.num_outputs)], outputs)
        self._network, self._size_inputs = network, found
        return network

    def build(
        self,
        input_name: str,
        profiles: Sequence[ShapeProfile],
        options: BuildOptions,
        timing_cache: Path | None,
        progress: BuildProgress,
    ) -> Any:
        """Build the plan and return it as a buffer; raise `BuildError` on failure and `KeyboardInterrupt` on Ctrl-C.

        Kernel timings are read from the file `timing_cache`, if it matches the library and device, and written back.
        """
        config = self._configured(options)
        for profile in profiles:
            config.add_optimization_profile(self._shape_profile(input_name, profile))
        cache = self._timings(config, timing_cache) if timing_cache else None
        monitor = create_progress_monitor(self._trt, progress)  # the library holds no reference
        config.progress_monitor = monitor
        self._failures.clear()
        with progress.cancelled_by_interrupt():
            plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            raise BuildError(
                device_fault(self._failures) or f"TensorRT cannot build the plan: {_shown(self._failures)}"
            )
        if timing_cache and cache is not None:
            _write_whole(timing_cache, cache.serialize())
        return plan

    def check_loads(self, plan: Any, options: BuildOptions) -> None:
        """Load a plan on the device it was built for; raise `BuildError` if that fails."""
        self._failures.clear()
        try:
            load_engine(self._trt, plan, options, self._failures)
        except PlanRunError as error:
            raise BuildError(str(error)) from error

    def _configured(self, options: BuildOptions) -> Any:
        trt = self._trt
        config = self._builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it would round float32 operands to ten fraction bits
        if options.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * MEBIBYTE)
        if options.optimisation_level is not None:
            config.builder_optimization_level = options.optimisation_level
        if options.hardware_compatibility != "none":
            level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper())
            config.hardware_compatibility_level = level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        return config

    def _shape_profile(self, input_name: str, profile: ShapeProfile) -> Any:
        shapes = [(n, IMAGE_CHANNELS, h, w) for n, h, w in (profile.min, profile.opt, profile.max)]
        created = self._builder.create_optimization_profile()
        created.set_shape(input_name, *shapes)
        for name in self._size_inputs:  # each image's height and width, for a masked model
            created.set_shape(name, *((count,) for count, *_ in shapes))
        return created

    def _timings(self, config: Any, path: Path) -> Any:
        kept = path.read_bytes() if path.exists() else b""
        cache = config.create_timing_cache(kept)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
        logger.warning("%s belongs to another TensorRT version or device; starting an empty timing cache", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def _parser_error(error: Any) -> str:
    node, code, reason = error.node_name(), error.code().name, error.desc()
    return f"node {node!r} ({error.node_operator()}), {code}: {reason}" if node else f"{code}: {reason}"


def _check_tensors(kind: str, tensors: Sequence[Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    names = [tensor.name for tensor in tensors]
    if names != list(expected):
        raise BuildError(f"the model's {kind}s are {names}, its manifest says {list(expected)}")
    for tensor, wanted in zip(tensors, expected.values(), strict=True):
        dtype, shape = tensor.dtype.name, tuple(tensor.shape)
        if (dtype, shape) != (IO_DTYPE, wanted):
            raise BuildError(f"the model's {kind} {tensor.name} is {dtype} {shape} instead of {IO_DTYPE} {wanted}")


def _shown(errors: Sequence[str]) -> str:
    return "; ".join(errors[:SHOWN_ERRORS]) or "it gave no reason"


def _write_whole(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
