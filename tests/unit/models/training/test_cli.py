"""Tests of the command line: training, resuming and evaluation."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.training.cli import main
from models.training.evaluation_sets import EVALUATION, VALIDATION

FIT = [
    "--variant",
    "promptir-tiny",
    "--stages",
    "1:32x1",
    "--device",
    "cpu",
    "--warmup-steps",
    "1",
    "--precision",
    "fp32",
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(13):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed:02}.png"), cv2.resize(coarse, (392, 392), interpolation=cv2.INTER_CUBIC))
    return folder


def test_fit_trains_resumes_and_its_weights_evaluate(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    fit = ["fit", str(photos), "--output", str(run), "--steps", "2", "--validate-every", "1", *FIT]
    assert main([*fit, "--until", "1"]) == 0
    assert len((run / "history.jsonl").read_text().splitlines()) == 1
    assert main(fit) == 0
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [1, 2]
    assert set(history[0]["psnr"]) == set(VALIDATION)

    assert main(fit) == 0
    assert "resuming" in capsys.readouterr().err
    assert len((run / "history.jsonl").read_text().splitlines()) == 2, "a finished run has nothing left to do"

    report = tmp_path / "report.json"
    weights = str(run / "weights.safetensors")
    clean = tmp_path / "clean"
    clean.mkdir()
    cv2.imwrite(str(clean / "a.png"), np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    evaluate = ["evaluate", weights, "--variant", "promptir-tiny", "--clean", str(clean), "--json", str(report)]
    assert main([*evaluate, "--device", "cpu"]) == 0
    assert "| clean noise15 | 1 |" in capsys.readouterr().out
    assert len(json.loads(report.read_text())) == len(EVALUATION)


def test_a_folder_without_photos_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(tmp_path), "--output", str(tmp_path / "run"), "--steps", "1", *FIT]) == 1
    assert "holds no photo" in capsys.readouterr().err


def test_weights_that_do_not_exist_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / "absent.pt"), "--clean", str(tmp_path)]) == 1
    assert "absent.pt" in capsys.readouterr().err


def test_evaluate_asks_for_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / "w.pt")]) == 1
    assert "--clean, --pairs, --real or --labels" in capsys.readouterr().err


def test_a_stage_that_cannot_be_read_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "x", "--output", "y", "--steps", "1", "--stages", "half"])
    assert ended.value.code == 2
    assert "UNTIL:PATCHxBATCH" in capsys.readouterr().err
