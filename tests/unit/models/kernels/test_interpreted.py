"""The fused kernels in the interpreter of Triton: errors against float64, over odd sizes, batches and masks."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="compares with torch (extra `pytorch`)")
pytest.importorskip("triton", reason="interprets Triton kernels (extra `fused`)")

PROGRAM = Path(__file__).parents[3] / "support" / "interpreted_kernels.py"
HALF_ROUNDING = 1e-3
"""Relative error of float16 results whose sums are float32."""
BLOCK_ROUNDING = 4e-3
"""Of a block, whose steps are rounded one after the other."""
BOUNDS = {
    "norm_project": HALF_ROUNDING,
    "project_add": HALF_ROUNDING,
    "gated_feed_forward": HALF_ROUNDING,
    "depthwise_convolution": HALF_ROUNDING,
    "gate": HALF_ROUNDING,
    "gate_project_add": HALF_ROUNDING,
    "attention_between_channels": HALF_ROUNDING,
    "a_silent_query": HALF_ROUNDING,
    "scaled_projection": HALF_ROUNDING,
    "transformer_block": BLOCK_ROUNDING,
    "naf_block": BLOCK_ROUNDING,
}


@pytest.fixture(scope="module")
def results() -> Mapping[str, float]:
    finished = subprocess.run(
        [sys.executable, PROGRAM],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return {name: value for line in finished.stdout.splitlines() for name, value in json.loads(line).items()}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_kernel_computes_what_pytorch_does(results: Mapping[str, float], name: str) -> None:
    assert results[name] < BOUNDS[name]


def test_every_kernel_has_a_bound(results: Mapping[str, float]) -> None:
    assert set(results) == {*BOUNDS, "accelerated"}


def test_a_network_whose_kernels_agree_is_accelerated(results: Mapping[str, float]) -> None:
    assert results["accelerated"] is True
