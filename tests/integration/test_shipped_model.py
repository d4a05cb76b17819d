"""Tests that the shipped model restores a real photo that it was not trained on."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE, Manifest
from models.checkpoint import load_network
from models.training.degradations.noise import noise
from models.training.evaluation_sets import EVALUATION
from models.variants import variant

PHOTO = Path(__file__).parent.parent / "photos" / "pier.jpg"
LARGEST_MODEL_BYTES = 12 * 2**20
LARGEST_PARITY_ERROR = 1e-4

# Required gain of the shipped weights on this crop, in dB; they gain about 2 dB more.
LEAST_GAIN = {"noise15": 5.0, "noise25": 7.0, "noise50": 9.0, "noise25-jpeg85": 4.0, "rain": 8.0, "haze": 4.0}
# Thick haze, because the network leaves light haze in a dusky sky alone.
SEEDS = {"haze": 4}


@pytest.fixture(scope="module")
def shipped(session_start: Callable[..., Any]) -> Any:
    return session_start(backend="onnx").until_ready()


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Return a detailed part of the photo, whose size is not a multiple of 8."""
    pixels = cv2.imread(str(PHOTO), cv2.IMREAD_COLOR_RGB)[70:250, 60:330]
    return pixels.astype(np.float32) / 255


@pytest.mark.parametrize("kind", sorted(LEAST_GAIN))
def test_a_degraded_photo_comes_back_closer_to_the_clean_one(kind: str, shipped: Any, clean: np.ndarray) -> None:
    degraded = EVALUATION[kind](clean, np.random.default_rng(SEEDS.get(kind, 3)))
    response = shipped.client.post("/restore", content=encoded(degraded), headers={"Content-Type": "image/png"})
    assert response.status_code == 200, response.text
    restored = decoded(response.content)
    assert restored.shape == clean.shape
    assert psnr(clean, restored) - psnr(clean, degraded) > LEAST_GAIN[kind]


def test_a_clean_photo_and_a_flat_field_come_back_unchanged(shipped: Any, clean: np.ndarray) -> None:
    for image in (clean, np.full((64, 96, 3), 128 / 255, np.float32)):
        answer = decoded(shipped.client.post("/restore", content=encoded(image)).content)
        np.testing.assert_array_equal(answer, image)


def test_the_command_line_restores_the_photo_too(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, clean: np.ndarray
) -> None:
    degraded = noise(25)(clean, np.random.default_rng(3))
    (tmp_path / "noisy.png").write_bytes(encoded(degraded))
    ended = command("restore", tmp_path / "noisy.png", tmp_path / "restored.png")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == f"promptir: noise found and reduced; written to {tmp_path / 'restored.png'}\n"
    restored = decoded((tmp_path / "restored.png").read_bytes())
    assert psnr(clean, restored) - psnr(clean, degraded) > LEAST_GAIN["noise25"]


def test_a_report_tells_what_the_network_itself_weighs(shipped: Any, clean: np.ndarray) -> None:
    data = encoded(noise(25)(clean[:96, :160], np.random.default_rng(4)))  # whole steps of 8: no padding
    response = shipped.client.post(
        "/restore", params={"report": "true"}, content=data, headers={"Accept": "application/json"}
    )
    found = np.array(response.json()["prompt_weights"])
    network = load_network(DEFAULT_ARTIFACT / "weights.safetensors", variant("promptnaf"))
    with torch.inference_mode():
        pixels = torch.from_numpy(decoded(data).transpose(2, 0, 1)[np.newaxis].copy())
        expected = network.outputs(pixels).prompt_weights[0].numpy()
    assert found.shape == network.prompt_shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_artifact_matches_its_manifest_and_its_promises() -> None:
    manifest = Manifest.load(DEFAULT_ARTIFACT)
    manifest.verify(DEFAULT_ARTIFACT)
    assert manifest.name == DEFAULT_ARTIFACT.name  # by which clients ask for it
    assert (DEFAULT_ARTIFACT / MODEL_FILE).stat().st_size <= LARGEST_MODEL_BYTES
    assert len(manifest.parity) >= 4
    assert max(entry.max_abs_error for entry in manifest.parity) <= LARGEST_PARITY_ERROR


def encoded(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.rint(image[..., ::-1] * 255).astype(np.uint8))[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB).astype(np.float32) / 255


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((clean - image) ** 2)))
