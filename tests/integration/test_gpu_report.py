"""The GPU report, tried where there is no GPU: its figures hang together, and without one it says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent.parent / "loadtests" / "gpu_report.py"
TIMEOUT_S = 240


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_every_way_has_its_figures_or_a_reason(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    small = ("--device", "cpu", "--variant", "promptir-tiny", "--sizes", 32, "--batches", 1, 2, "--no-tests")
    ended = report(*small, "--ways", "eager", "CUDA graph", "ONNX", "--output", target)
    assert ended.returncode == 0, ended.stderr
    written = json.loads(target.read_text())
    rows = {(row["way"], row["batch"]): row for row in written["rows"]}
    fp32, fp16 = rows["eager FP32", 2], rows["eager FP16", 2]
    assert fp32["ms_per_image"] * 2 / (2 * 32 * 32 / 1e6) == pytest.approx(fp32["ms_per_megapixel"])
    share = fp32["tflop_per_s"] / written["limits"]["matrix_tflop_per_s"]
    assert fp32["matrix_rate_share"] == pytest.approx(share)
    assert fp32["psnr_db"] > 130
    assert 60 < fp16["psnr_db"] < 130, "half precision is near, and not the same"
    assert "CUDA" in rows["FP16, channels last, CUDA graph", 1]["reason"]
    assert all("reason" in row or row["ms_per_image"] > 0 for row in rows.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU to report on")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    ended = report("--output", tmp_path / "report.json")
    assert ended.returncode == 1
    assert "no usable NVIDIA GPU" in ended.stderr
    assert not (tmp_path / "report.json").exists()
