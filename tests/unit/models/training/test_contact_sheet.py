"""Tests of the contact sheet."""

from pathlib import Path

import cv2
import numpy as np

from models.training.contact_sheet import CROP, GAP, TITLE_HEIGHT, WHOLE_HEIGHT, contact_sheet


def test_every_photo_has_a_row_with_the_photo_and_its_restoration(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 60, 3), 100, np.uint8))
    sheet = tmp_path / "sheet.png"
    assert contact_sheet(lambda image: image * 0.5, [folder], sheet, columns=2) == 3
    pixels = cv2.imread(str(sheet))
    assert pixels.shape[0] == 2 * (TITLE_HEIGHT + WHOLE_HEIGHT + GAP)
    middle = TITLE_HEIGHT + WHOLE_HEIGHT // 2
    width = round(60 * WHOLE_HEIGHT / 40)
    assert (pixels[middle, width // 2] == 100).all()
    assert (pixels[middle, width + GAP + width // 2] == 50).all()
    assert pixels.shape[1] >= 2 * (2 * width + 2 * CROP)
