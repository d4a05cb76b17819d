"""Tests of the command line: training, resuming and evaluation."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.training.cli import main
from models.training.evaluation_sets import EVALUATION, VALIDATION
from models.variants import build, variant

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


def test_calibrate_fits_the_head_and_nothing_else(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = build(variant("promptnaf-tiny")).state_dict()
    save_file(before, tmp_path / "trained.safetensors")
    paths = [str(tmp_path / "trained.safetensors"), str(photos), "--output", str(tmp_path / "calibrated.safetensors")]
    assert main(["calibrate", *paths, "--variant", "promptnaf-tiny", "--examples", "16"]) == 0
    assert "classified correctly" in capsys.readouterr().out
    after = load_file(tmp_path / "calibrated.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.hidden.weight", "head.hidden.bias", "head.logits.weight", "head.logits.bias"}


def test_calibrate_raises_the_log_odds_of_a_label(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(build(variant("promptnaf-tiny")).state_dict(), tmp_path / "trained.safetensors")
    calibrate = ["calibrate", str(tmp_path / "trained.safetensors"), str(photos), "--variant", "promptnaf-tiny"]
    calibrate += ["--examples", "16", "--output", str(tmp_path / "calibrated.safetensors")]
    heads = []
    for shift in ([], ["--log-odds", "haze=2", "jpeg=-0.5"]):
        assert main([*calibrate, *shift]) == 0
        heads.append(load_file(tmp_path / "calibrated.safetensors")["head.logits.bias"])
    torch.testing.assert_close(heads[1] - heads[0], torch.tensor([0, 0, 2, -0.5]))

    with pytest.raises(SystemExit):
        main([*calibrate, "--log-odds", "fog=1"])
    assert "'fog' is not a label; labels: noise, rain, haze, jpeg" in capsys.readouterr().err


def test_average_lies_between_two_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (build(variant("promptnaf-tiny")).state_dict() for _ in range(2))
    for name, weights in (("first", first), ("second", second)):
        save_file(weights, tmp_path / f"{name}.safetensors")
    average = ["average", str(tmp_path / "first.safetensors"), str(tmp_path / "second.safetensors")]
    average += ["--variant", "promptnaf-tiny", "--output", str(tmp_path / "average.safetensors")]
    assert main([*average, "--share", "0.75"]) == 0
    found = load_file(tmp_path / "average.safetensors")
    assert found.keys() == first.keys()
    for name, weights in found.items():
        torch.testing.assert_close(weights, 0.75 * first[name] + 0.25 * second[name])

    assert main([*average, "--share", "1.5"]) == 1
    assert "from 0 to 1" in capsys.readouterr().err
