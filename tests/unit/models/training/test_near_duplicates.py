"""Tests that evaluation pictures are kept out of training."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.artifact import DEFAULT_ARTIFACT
from models.photos import read_photo
from models.training import cli
from models.training.near_duplicates import (
    NEAR,
    distance,
    format_hashes,
    near_duplicate,
    perceptual_hash,
    read_hashes,
)

PHOTO = Path(__file__).parents[3] / "photos" / "pier.jpg"


def test_a_copy_that_was_resized_and_saved_again_is_found(tmp_path: Path) -> None:
    photo = read_photo(PHOTO)
    table = tmp_path / "hashes.tsv"
    table.write_text(format_hashes([("pier", photo), ("mirrored", photo[:, ::-1])]))
    small = cv2.resize(photo, None, fx=0.5, fy=0.6, interpolation=cv2.INTER_AREA)
    saved = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    assert near_duplicate(perceptual_hash(saved), read_hashes(table)) == "pier"


def test_unrelated_pictures_are_not_near() -> None:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in range(20)]
    hashes = [perceptual_hash(cv2.resize(one, (96, 96), interpolation=cv2.INTER_CUBIC)) for one in coarse]
    assert min(distance(one, other) for i, one in enumerate(hashes) for other in hashes[i + 1 :]) > NEAR


def test_no_photo_of_the_shipped_weights_is_an_evaluation_picture() -> None:
    lines = (DEFAULT_ARTIFACT / "photos.tsv").read_text(encoding="utf-8").splitlines()
    evaluation = read_hashes()
    assert len(lines) - 1 == 491
    assert len(evaluation) > 100
    for line in lines[1:]:
        name, *_, digits = line.split("\t")
        assert near_duplicate(int(digits, 16), evaluation) is None, name


def test_a_run_refuses_to_train_on_an_evaluation_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "copy.jpg").write_bytes(PHOTO.read_bytes())
    monkeypatch.setattr(cli, "EVALUATION_PICTURES", {"pier": perceptual_hash(read_photo(PHOTO))})
    fit = ["fit", str(tmp_path / "photos"), "--output", str(tmp_path / "run"), "--steps", "1"]
    assert cli.main(fit) == 1
    assert "copy.jpg is a near-duplicate of the evaluation picture pier" in capsys.readouterr().err
