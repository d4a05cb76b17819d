"""TensorRT export of an ONNX artifact folder into a plan folder."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from export.build_progress import BuildProgress
from export.layer_audit import audit, check_layer_types
from export.plan_builder import BuildError, PlanBuilder
from export.plan_parity import find_weights, with_parity
from export.profiles import DEFAULT_PROFILES, check_profiles
from export.staging import staged
from export.tensorrt_library import load_tensorrt, makes_portable_plans
from models.artifact import MODEL_FILE, ArtifactError, Manifest, sha256_of
from models.nvidia_gpu import Device, find_device
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest, ShapeProfile
from models.tensorrt_faults import NO_USABLE_DEVICE

DEFAULT_OPTIONS = BuildOptions()
NOT_CARRIED_OVER = {"name", "sha256", "parity", "exporter"}

logger = logging.getLogger(__name__)


def build_options(**fields: object) -> BuildOptions:
    """Return build options with the given values; raise `BuildError` naming the first one out of range."""
    try:
        return BuildOptions.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BuildError(f"build option {first['loc'][0]} = {first['input']}: {first['msg']}") from None


def export_plan(
    artifact: Path,
    output: Path,
    profiles: Sequence[ShapeProfile] = DEFAULT_PROFILES,
    options: BuildOptions = DEFAULT_OPTIONS,
    timing_cache: Path | None = None,
    weights: Path | None = None,
) -> PlanManifest:
    """Write the plan folder `output` from the ONNX artifact in the folder `artifact`.

    The folder appears only after the parsed network has passed the layer audit, the plan is built and, with a GPU and
    `weights`, the plan has passed the gate of its precision. Raises subclasses of `ValueError` with one-sentence
    messages: `TensorRTUnavailable`, `ArtifactError` for a file that does not match its manifest, `ProfileError`,
    `PrecisionError`, `BuildError`, `ParityError` and `OutputFolderError`.
    """
    trt = load_tensorrt()
    portable = makes_portable_plans(trt)
    _check_options(portable, options, timing_cache)
    device = None if portable else _required_device()
    manifest = _verified_manifest(artifact)
    weights = find_weights(artifact, manifest, weights)
    model = artifact / MODEL_FILE
    check_profiles(model, profiles, manifest.size_multiple)
    with staged(output, PLAN_FILE) as staging:
        builder = PlanBuilder(trt)
        builder.start()
        logger.info("parsing %s with %s %s", model, trt.__name__, trt.__version__)
        layer_types = audit(builder.parse(model, manifest))
        check_layer_types(layer_types, manifest.precision)
        logger.info("building for %s", ", ".join(map(str, profiles)))
        started = time.perf_counter()
        plan = builder.build(manifest.input_name, profiles, options, timing_cache, BuildProgress())
        (staging / PLAN_FILE).write_bytes(plan)
        logger.info("built in %.1f s", time.perf_counter() - started)
        if device:
            builder.check_loads(plan, options)
        plan_manifest = PlanManifest(
            **manifest.model_dump(exclude=NOT_CARRIED_OVER),
            name=output.resolve().name,
            sha256=sha256_of(staging / PLAN_FILE),
            parity=(),
            parity_unmeasured="not yet",
            exporter=manifest.exporter | {trt.__name__: trt.__version__},
            flavour="tensorrt_rtx" if portable else "tensorrt",
            tensorrt_version=trt.__version__,
            **_facts(device),
            profiles=tuple(profiles),
            options=options,
            layer_types=layer_types,
            onnx_sha256=manifest.sha256,
            onnx_parity=manifest.parity,
        )
        plan_manifest = with_parity(plan_manifest, staging, weights)
        plan_manifest.save(staging)
    return plan_manifest


def _verified_manifest(artifact: Path) -> Manifest:
    if (artifact / PLAN_FILE).exists() and not (artifact / MODEL_FILE).exists():
        raise ArtifactError(f"{artifact} holds a TensorRT plan; name the ONNX artifact to build one from")
    manifest = Manifest.load(artifact)
    manifest.verify(artifact)
    return manifest


def _check_options(portable: bool, options: BuildOptions, timing_cache: Path | None) -> None:
    """Raise `BuildError` for options that TensorRT-RTX ignores, or fails on at the end of a long build."""
    if not portable:
        return
    if options.hardware_compatibility != "none":
        raise BuildError("plans of TensorRT-RTX run on every GPU it supports; leave out --hardware-compatibility")
    if options.version_compatible:
        raise BuildError("TensorRT-RTX has no lean runtime to put into a plan; leave out --version-compatible")
    if timing_cache:
        raise BuildError("TensorRT-RTX does not time kernels; leave out --timing-cache")


def _required_device() -> Device:
    device = find_device()
    if device is None:
        raise BuildError(NO_USABLE_DEVICE)
    return device


def _facts(device: Device | None) -> dict[str, str]:
    if device is None:
        return {}
    return {"device": device.name, "compute_capability": device.compute_capability, "driver": device.driver}
