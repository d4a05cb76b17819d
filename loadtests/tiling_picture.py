"""The picture of docs/tiling.md: a hazy and a noisy photo in one run, in tiles, blended, and with statistics shared.

The photo is tests/photos/pier.jpg, whose licence stands beside it; the tiles are small, so that there are many.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from shared_graphs import export_all
from shared_statistics import Graphs, restored_in_tiles
from tiling_study import equal_grid, frames, psnr

from server.backends.base import Pixels

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests" / "photos" / "pier.jpg"
PICTURE = ROOT / "docs" / "images" / "tiling.jpg"
FRAME = (320, 480)
SIDE, OVERLAP = 128, 32
CLOSE_UP = (slice(72, 152), slice(60, 180))
GAP = 6
JPEG_QUALITY = 88


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        export_all(Path(folder))
        graphs = Graphs.load(Path(folder))
    rows = []
    for kind, part in (("haze", (slice(None), slice(None))), ("noise50", CLOSE_UP)):
        rows += [band(graphs, kind, part), np.ones((GAP, rows_width(), 3), np.float32)]
    picture = np.rint(np.concatenate(rows[:-1]) * 255).astype(np.uint8)
    cv2.imwrite(str(PICTURE), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return 0


def rows_width() -> int:
    return 4 * FRAME[1] + 3 * GAP


def band(graphs: Graphs, kind: str, part: tuple[slice, slice]) -> Pixels:
    """(H, W, 3), side by side: one run, tiles without overlap, tiles blended, tiles blended with shared statistics."""
    _, spoiled = frames(PHOTO, kind, FRAME)
    restored, exact = graphs.give(spoiled)
    whole = np.clip(restored, 0, 1)
    apart, blended = equal_grid(SIDE, 0, FRAME), equal_grid(SIDE, OVERLAP, FRAME)
    shared = "mosaic of 16"
    answers = [
        whole,
        restored_in_tiles(graphs, spoiled, apart, "own", exact),
        restored_in_tiles(graphs, spoiled, blended, "own", exact),
        restored_in_tiles(graphs, spoiled, blended, shared, exact),
    ]
    print(kind, [f"{psnr(whole, answer):.1f}" for answer in answers[1:]])
    columns = []
    for answer in answers:
        shown = answer.transpose(1, 2, 0)[part]
        size = (FRAME[1], round(FRAME[1] * shown.shape[0] / shown.shape[1]))
        columns += [cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST), np.ones((size[1], GAP, 3), np.float32)]
    return np.concatenate(columns[:-1], axis=1)


if __name__ == "__main__":
    sys.exit(main())
