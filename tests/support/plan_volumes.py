"""Plans in a plan volume, and exports that write them, without a GPU."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

from export.profiles import DEFAULT_PROFILES
from models.artifact import Manifest, Parity
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest

PLAN = b"a plan"
ARTIFACT = Manifest(
    name="shipped",
    variant="promptnaf",
    input_name="image",
    output_name="restored",
    size_multiple=8,
    precision="fp32",
    opset=17,
    sha256="0" * 64,
    weights_sha256="1" * 64,
    parameters=1,
    parity=(),
    exporter={},
)


def write_plan(folder: Path, **changed: object) -> PlanManifest:
    facts = {
        "name": folder.name,
        "variant": "promptnaf",
        "precision": "mixed",
        "sha256": hashlib.sha256(PLAN).hexdigest(),
        "flavour": "tensorrt",
        "tensorrt_version": "11.4.0",
        "device": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "profiles": DEFAULT_PROFILES,
        "options": BuildOptions(),
        "layer_types": {"CONVOLUTION": {"HALF": 1}},
        "onnx_sha256": "2" * 64,
        "onnx_parity": (),
        "parity": (Parity(shape=(1, 3, 64, 64), max_abs_error=1e-3, psnr_db=70.0),),
    }
    common = ARTIFACT.model_dump(exclude={"name", "variant", "precision", "sha256", "parity"})
    manifest = PlanManifest(**common, **(facts | changed))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_bytes(PLAN)
    manifest.save(folder)
    return manifest


def exporting(steps: list[list[str]], **changed: object) -> SimpleNamespace:
    """Replace `subprocess`: records each step; a step that builds a plan writes one."""

    def run(step: list[str], check: bool) -> SimpleNamespace:
        steps.append(step)
        if step[1] == "tensorrt":
            write_plan(Path(step[step.index("--output") + 1]), **changed)
        return SimpleNamespace(returncode=0)

    return SimpleNamespace(run=run)
