"""The parity of a plan that is built and run on this machine's GPU."""

import json
from pathlib import Path

import pytest

from models.plan_manifest import PlanManifest, ShapeProfile

to_onnx = pytest.importorskip("export.to_onnx", reason="exports its model (extra `export`)")
to_tensorrt = pytest.importorskip("export.to_tensorrt", reason="builds its plan (extra `export`)")
cli = pytest.importorskip("export.cli")
library = pytest.importorskip("export.tensorrt_library")
shapes = pytest.importorskip("export.shapes")
pytestmark = pytest.mark.gpu

PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(2, 64, 64), max=(4, 128, 256)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 512, 512), max=(1, 512, 512)),
)


@pytest.mark.parametrize("precision", ["mixed", "fp32"])
def test_a_plan_is_measured_after_its_build_and_verified_again_later(
    weights: Path, tmp_path: Path, precision: str
) -> None:
    onnx, plan, report = tmp_path / "onnx", tmp_path / "plan", tmp_path / "report.json"
    to_onnx.export_onnx(weights, "promptir-tiny", onnx, precision=precision)
    try:
        to_tensorrt.export_plan(onnx, plan, PROFILES, weights=weights)
    except library.TensorRTUnavailable as error:
        pytest.skip(str(error))
    manifest = PlanManifest.load(plan)
    assert manifest.parity_unmeasured is None
    assert tuple(entry.shape for entry in manifest.parity) == shapes.shapes_within(PROFILES)
    command = ["verify", str(onnx), str(plan), "--weights", str(weights), "--json", str(report)]
    assert cli.main(command) == 0
    runs = {row["run"] for row in json.loads(report.read_text())["rows"]}
    assert runs == {f"{precision} model.onnx", f"{precision} model.plan"}
