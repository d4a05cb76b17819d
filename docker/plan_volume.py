"""Plan volume with one folder per GPU and TensorRT version, written by `export` and read by `serve`."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.artifact import DEFAULT_ARTIFACT, ArtifactError, Manifest
from models.nvidia_gpu import find_device
from models.plan_manifest import PORTABLE, PlanManifest
from server.settings.tree import GPU_WHOLE_PIXELS

WEIGHTS_FILE = "weights.safetensors"
MIXED_SUFFIX = "mixed"
LONGEST_WHOLE_SIDE = 4096
CHOSEN_BY_USER = "PROMPTIR_BACKEND"


@dataclass(frozen=True)
class Runtime:
    """Runtime a plan is bound to: library, version and GPU (compute capability None if there is no GPU)."""

    flavour: str
    version: str
    device: str = PORTABLE
    compute_capability: str | None = None

    @property
    def key(self) -> Path:
        """Return the folder for plans of exactly this runtime, such as nvidia-h100-sm90/tensorrt-11.4."""
        # TensorRT-RTX plans run on every GPU the library supports
        bound = self.flavour == "tensorrt" and self.compute_capability is not None
        device = f"{_slug(self.device)}-sm{_slug(self.compute_capability or '')}" if bound else PORTABLE
        return Path(device) / f"{_slug(self.flavour)}-{_slug(self.version)}"


def find_runtime() -> Runtime | None:
    """Return TensorRT, or else TensorRT-RTX, with the first GPU; None if neither is installed."""
    for flavour in ("tensorrt", "tensorrt_rtx"):
        try:
            version = importlib.import_module(flavour).__version__
        except ImportError:
            continue
        device = find_device()
        if device is None:
            return Runtime(flavour, version)
        return Runtime(flavour, version, device.name, device.compute_capability)
    return None


def plan_folder(plans: Path, runtime: Runtime, artifact: Manifest) -> Path:
    """Return the path in the volume for the plan of this artifact's network and this runtime."""
    return plans / runtime.key / artifact.variant


def usable_plan(plans: Path, runtime: Runtime, artifact: Manifest) -> Path | None:
    """Return the folder of a complete, verified plan of this artifact's network for this runtime, or None.

    Complete means that its profiles take what the servers restore whole, sides over 4096 pixels aside. Verified means
    that its parity was measured on a GPU; the exporter keeps no plan that misses the gate.
    """
    folder = plan_folder(plans, runtime, artifact)
    try:
        manifest = PlanManifest.load(folder)
        manifest.check_runtime(runtime.flavour, runtime.version, runtime.compute_capability)
        manifest.verify(folder)
    except ArtifactError:
        return None
    if not manifest.parity:
        _say(f"the plan in {folder} is not verified: {manifest.parity_unmeasured}")
        return None
    if (gap := manifest.first_gap(whole_pixels(os.environ), LONGEST_WHOLE_SIDE)) is not None:
        height, width = gap
        _say(
            f"the plan in {folder} has no profile for an image of {width}x{height} pixels, which is restored whole "
            "now and would be cut into tiles: build it with the default profiles, or with further ones"
        )
        return None
    return folder if manifest.weights_sha256 == artifact.weights_sha256 else None


def whole_pixels(environment: Mapping[str, str]) -> int:
    """Return the most pixels of an image that a server with these settings restores in one piece on a GPU."""
    return int(environment.get("PROMPTIR_MAX_WHOLE_PIXELS") or GPU_WHOLE_PIXELS)


def export(plans: Path, artifact: Path, profiles: Sequence[str]) -> int:
    """Build and verify the plan for this GPU unless the volume has it; return 0 on success, else the failed exit code.

    Builds nothing without a GPU, although TensorRT-RTX could, because servers reject plans whose parity was not
    measured.
    """
    runtime = find_runtime()
    if runtime is None:
        return _fail("TensorRT is not installed; build the image with --build-arg TENSORRT=tensorrt")
    if runtime.compute_capability is None:
        return _fail("there is no GPU to measure the plan's parity on; unmeasured plans are not served")
    manifest = Manifest.load(artifact)
    if (found := usable_plan(plans, runtime, manifest)) is not None:
        print(f"{found} already exists")
        return 0
    folder = plans / runtime.key
    mixed = folder / f"{manifest.variant}-{MIXED_SUFFIX}"
    weights = ["--weights", artifact / WEIGHTS_FILE]
    onnx = ["onnx", *weights, "--variant", manifest.variant, "--precision", "mixed"]
    build = ["tensorrt", "--onnx", mixed, *weights, "--output", folder / manifest.variant]
    if profiles:
        build += ["--profile", *profiles]
    for step in ([*onnx, "--output", mixed], build):
        finished = subprocess.run(["promptir-export", *map(str, step)], check=False)  # noqa: S603, S607
        if finished.returncode:
            return finished.returncode
    if usable_plan(plans, runtime, manifest) is None:  # torch may not support the GPU, so that nothing was measured
        return _fail("the plan was built, but no server would load it: see above")
    return 0


def serving(plans: Path, artifacts: Sequence[Path], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings to serve with: this GPU's verified plan if there is one, otherwise PyTorch in FP16.

    PyTorch, unlike ONNX Runtime on CUDA, does not plan every convolution anew for each change of size, and it mixes
    sizes in a batch; ONNX Runtime serves artifacts without weights. The server watches for the plan and switches to it
    once it exists; of several artifacts, it waits for the plan of each. A backend set by the user is kept. Without a
    GPU the settings are the same: the server then refuses to start and says why, where `auto` would serve on the CPU.
    """
    if environment.get(CHOSEN_BY_USER):
        return {}
    meanwhile = _meanwhile(artifacts, environment)
    runtime = find_runtime()
    if runtime is None or runtime.compute_capability is None:
        return meanwhile
    manifests = [Manifest.load(artifact) for artifact in artifacts]
    plan = usable_plan(plans, runtime, manifests[0]) if len(manifests) == 1 else None
    if plan is None:
        folders = [str(plan_folder(plans, runtime, manifest)) for manifest in manifests]
        return meanwhile | {"PROMPTIR_SUCCESSOR": ",".join(folders)}
    return {CHOSEN_BY_USER: "tensorrt", "PROMPTIR_ARTIFACT": str(plan)}


def _meanwhile(artifacts: Sequence[Path], environment: Mapping[str, str]) -> dict[str, str]:
    have_weights = all((artifact / WEIGHTS_FILE).exists() for artifact in artifacts)
    if environment.get("PROMPTIR_ONNX_PROVIDERS") or not have_weights:
        return {CHOSEN_BY_USER: "onnx", "PROMPTIR_ONNX_PROVIDERS": environment.get("PROMPTIR_ONNX_PROVIDERS") or "cuda"}
    chosen = {
        "PROMPTIR_DEVICES": environment.get("PROMPTIR_DEVICES") or "cuda:0",
        "PROMPTIR_TORCH_PRECISION": environment.get("PROMPTIR_TORCH_PRECISION") or "fp16",
    }
    return {CHOSEN_BY_USER: "pytorch", **chosen}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `export`, or replace this process with any other `promptir` command."""
    parser = argparse.ArgumentParser("plan_volume", description=__doc__)
    parser.add_argument("--plans", type=Path, required=True, metavar="FOLDER", help="mount point of the volume")
    parser.add_argument(
        "--profile", action="append", default=[], metavar="MIN:OPT:MAX", help="shape profile to build for; repeatable"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="export, or a promptir command such as serve (default: serve)"
    )
    options = parser.parse_args(argv)
    named = os.environ.get("PROMPTIR_ARTIFACT") or str(DEFAULT_ARTIFACT)
    artifacts = [Path(artifact.strip()) for artifact in named.split(",")]
    command = options.command or ["serve"]
    try:
        if command == ["export"]:
            return next(filter(None, (export(options.plans, each, options.profile) for each in artifacts)), 0)
        chosen = serving(options.plans, artifacts, os.environ) if command[0] == "serve" else {}
    except ArtifactError as error:
        return _fail(str(error))
    for name, value in chosen.items():
        print(f"{name}={value}", file=sys.stderr)
    return os.execvpe("promptir", ["promptir", *command], {**os.environ, **chosen})  # noqa: S606, S607


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _say(sentence: str) -> None:
    print(f"plan_volume: {sentence}", file=sys.stderr)


def _fail(sentence: str) -> int:
    _say(sentence)
    return 1


if __name__ == "__main__":
    sys.exit(main())
