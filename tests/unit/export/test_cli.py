"""Tests of the export's command line: progress, one-sentence errors and exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from export.cli import main
from export.shapes import VERIFICATION_SHAPES
from models.artifact import Manifest
from models.restoration import RestorationNetwork


def arguments(weights: Path, output: Path, variant: str = "promptir-tiny") -> list[str]:
    return ["onnx", "--weights", str(weights), "--variant", variant, "--output", str(output)]


def refusal(capfd: pytest.CaptureFixture[str], *command: str) -> str:
    """Return the last line on stderr of a failing command, after checking that it is one clean sentence."""
    assert main(command) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    last = captured.err.splitlines()[-1]
    assert last.startswith("promptir-export: ")
    return last


def test_a_clean_export_says_what_it_does_on_stderr_and_what_it_made_on_stdout(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "artifact"
    assert main([*arguments(weights, folder), "--opset", "18"]) == 0
    captured = capfd.readouterr()
    assert captured.out.startswith(f"{folder}: promptir-tiny, 345878 parameters, max abs error ")
    assert captured.out.count("\n") == 1
    progress = captured.err.splitlines()
    assert [line.split()[0] for line in progress] == ["loading", "tracing", "simplifying", *["verified"] * 5]
    assert Manifest.load(folder).opset == 18


def test_weights_of_another_variant_get_one_sentence(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capfd, *arguments(weights, tmp_path / "artifact", "promptir-compact"))
    assert "patch_embed.proj.weight has shape (8, 3, 3, 3), the network has (16, 3, 3, 3)" in sentence
    assert sentence.endswith("the file holds a promptir-tiny network")


def test_an_unknown_variant_gets_the_names_there_are(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sentence = refusal(capfd, *arguments(weights, tmp_path / "artifact", "promptir-xxl"))
    assert "unknown network variant 'promptir-xxl'; known variants: promptir, promptir-compact" in sentence


def test_a_missing_weights_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(capfd, *arguments(tmp_path / "none.pt", tmp_path / "artifact"))
    assert sentence.endswith("none.pt does not exist")


def test_an_output_that_cannot_be_written_is_named(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refusal(capfd, *arguments(weights, tmp_path / "file" / "artifact"))


def test_a_missing_library_is_named_with_the_extras_to_install(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "export.to_onnx")
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    sentence = refusal(capfd, *arguments(weights, tmp_path / "artifact"))
    assert sentence == "promptir-export: onnxslim is not installed; install the extras 'export' and 'cpu' (or 'gpu')"


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "usage: promptir-export" in capsys.readouterr().err


def test_help_does_not_load_torch() -> None:
    code = "import sys, export.cli, models.artifact; export.cli._parser().format_help(); print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"


def test_a_mixed_export_says_so_in_its_manifest(mixed_artifact: Path) -> None:
    assert Manifest.load(mixed_artifact).precision == "mixed"


def test_a_precision_that_does_not_exist_is_wrong_usage(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments(weights, tmp_path / "artifact"), "--precision", "int8"])


def test_verify_prints_a_line_for_each_run_and_writes_them_as_json(
    weights: Path, mixed_artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 24), (200, 100, 50)).save(tmp_path / "photo.png")
    report = tmp_path / "report.json"
    command = ["verify", str(mixed_artifact), "--weights", str(weights), "--photos", str(tmp_path)]
    assert main([*command, "--json", str(report), "--emulate", "16"]) == 0
    lines = capfd.readouterr().out.splitlines()
    runs = ["mixed"] * 7 + ["emulated"] * 2
    assert [line.split()[0] for line in lines] == ["mixed:", "run", *runs]
    assert all(line.endswith(" ok") for line in lines[2:])
    content = json.loads(report.read_text())
    assert content["passed"] is True
    (described,) = content["artifacts"]
    assert (described["artifact"], described["gate"]) == (
        "mixed",
        {"min_psnr_db": 50.0, "max_prompt_weights_error": 0.02},
    )
    assert len(content["rows"]) == len(runs)
    photo = content["rows"][5]
    assert (photo["run"], photo["input"], photo["shape"]) == ("mixed model.onnx", "photo.png", [1, 3, 24, 40])
    assert photo["psnr_db"] > 50
    assert photo["prompt_weights_error"] < 0.02
    assert (photo["non_finite"], photo["complaint"], photo["overflows"]) == (0, None, {})
    assert [row["run"] for row in content["rows"][-2:]] == ["emulated naive", "emulated islands"]


def test_verify_makes_one_table_of_several_artifacts_each_held_to_its_own_gate(
    weights: Path, artifact: Path, mixed_artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(["verify", str(artifact), str(mixed_artifact), "--weights", str(weights), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    gates = {described["run"]: described["gate"] for described in content["artifacts"]}
    assert gates == {
        "fp32 model.onnx": {"max_abs_error": 1e-4, "max_prompt_weights_error": 1e-4},
        "mixed model.onnx": {"min_psnr_db": 50.0, "max_prompt_weights_error": 0.02},
    }
    shapes = [tuple(row["shape"]) for row in content["rows"] if row["run"] == "mixed model.onnx"]
    assert shapes == [tuple(row["shape"]) for row in content["rows"] if row["run"] == "fp32 model.onnx"]
    assert tuple(shapes) == VERIFICATION_SHAPES


def test_verify_refuses_artifacts_of_different_networks(
    artifact: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(artifact, tmp_path / "other")
    Manifest.load(artifact).model_copy(update={"variant": "promptir"}).save(other)
    sentence = refusal(capfd, "verify", str(artifact), str(other), "--weights", str(weights))
    assert sentence.endswith("artifacts of promptir and promptir-tiny cannot share a table; verify each by itself")


def test_verify_fails_with_the_weights_of_another_model_and_still_reports(
    network: RestorationNetwork, artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = network.state_dict()
    torch.save(state | {"output.weight": torch.full_like(state["output.weight"], torch.nan)}, tmp_path / "nan.pt")
    report = tmp_path / "report.json"
    command = ["verify", str(artifact), "--weights", str(tmp_path / "nan.pt"), "--json", str(report)]
    assert main(command) == 1
    captured = capfd.readouterr()
    assert captured.out.count("FAILS") == 5
    assert captured.err.splitlines()[-1].startswith(
        "promptir-export: 5 of 5 runs fail: on noise, fp32 model.onnx is off by"
    )
    content = json.loads(report.read_text())
    assert content["passed"] is False
    assert content["rows"][0]["max_abs_error"] is None


def test_verify_refuses_a_side_that_the_network_cannot_take(
    weights: Path, artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(artifact), "--weights", str(weights), "--emulate", "12"]) == 1
    assert capfd.readouterr().err.splitlines()[-1].endswith("takes sides that are multiples of 8, not 12")


def test_verify_names_a_folder_that_holds_no_artifact(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere does not exist" in refusal(capfd, "verify", str(tmp_path / "nowhere"), "--weights", str(weights))
