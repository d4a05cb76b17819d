"""Draw the picture of docs/training.md: every registered degradation of one photo.

Usage: python docs/degradations_picture.py. The photo is tests/photos/pier.jpg, whose licence is in the same folder.
"""

from pathlib import Path

import cv2
import numpy as np

from models.photos import read_photo
from models.training.degradations import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests" / "photos" / "pier.jpg"
PICTURE = ROOT / "docs" / "images" / "degradations.jpg"
SIDE = 224
COLUMNS = 4
TITLE = 22
SEED = 5


def main() -> None:
    """Write a grid with one titled cell per degradation."""
    photo = read_photo(PHOTO)
    side = min(photo.shape[:2])
    square = cv2.resize(photo[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    clean = square.astype(np.float32) / np.float32(255)
    cells = []
    for name, degradation in REGISTRY.items():
        image = degradation.make(clean, np.random.default_rng(SEED)).image
        title = np.full((TITLE, SIDE, 3), 255, np.uint8)
        cv2.putText(title, name, (3, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(np.vstack([title, np.rint(image * 255).astype(np.uint8)]))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    cv2.imwrite(str(PICTURE), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
