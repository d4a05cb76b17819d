"""Tiling study: how far a tiled answer is from the network's answer to the whole frame.

    python loadtests/tiling_study.py --photos PHOTO... --output runs.jsonl      # runs; minutes for each photo
    python loadtests/tiling_study.py --table runs.jsonl                         # the table of docs/tiling.md

Every photo is spoiled as in training, restored in one run and in tiles, with the server's own tiles and blending. Runs
that the output has already are left out, so that a study can be continued.
"""

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE
from models.training.dataset import read_photo
from models.training.evaluation_sets import EVALUATION
from server.backends.base import Pixels
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.tiling import Axis, Grid

Run = Callable[[Pixels], Pixels]
Map = NDArray[np.float32]
Frame = tuple[int, ...]
"""Height and width."""

KINDS = ("noise25", "rain", "haze")
SIDES = (128, 256, 384, 512)
OVERLAPS = (0, 32, 64)
MULTIPLE = 8
FRAME = (512, 768)
SEED = 5
ALONG_SEAM = 16
"""Pixels over which a difference is averaged along a seam: what the eye follows is a long edge, not its noise."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--output", type=Path, default=Path("tiling.jsonl"))
    parser.add_argument("--kinds", nargs="+", choices=EVALUATION, default=KINDS)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--overlaps", type=int, nargs="+", default=OVERLAPS)
    parser.add_argument("--frame", type=int, nargs=2, default=FRAME, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--table", type=Path, help="print the table of these runs and stop")
    options = parser.parse_args()
    if options.table:
        print(table(read_rows(options.table)))
        return 0
    study(options, onnx_run())
    return 0


def study(options: argparse.Namespace, run: Run) -> None:
    done = {key(row) for row in read_rows(options.output)}
    for photo, kind in itertools.product(options.photos, options.kinds):
        settings = [(s, o) for s in options.sides for o in options.overlaps if (photo.stem, kind, s, o) not in done]
        if not settings:
            continue
        clean, spoiled = frames(photo, kind, tuple(options.frame))
        whole = np.clip(run(spoiled), 0, 1)
        for side, overlap in settings:
            grid = equal_grid(side, overlap, tuple(options.frame))
            tiled = restored_in_tiles(run, spoiled, grid)
            row = {
                "photo": photo.stem,
                "kind": kind,
                "side": side,
                "overlap": overlap,
                "tiles": len(grid),
                **measures(clean, spoiled, whole, tiled, grid),
            }
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")


def onnx_run(model: Path = DEFAULT_ARTIFACT / MODEL_FILE) -> Run:
    """The shipped network on one thread: (3, H, W) in and out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(None, {"image": image[np.newaxis]})[0][0])


def frames(photo: Path, kind: str, frame: Frame) -> tuple[Pixels, Pixels]:
    """The clean and the spoiled photo, (3, *frame): made smaller to cover the frame, and cut in the middle."""
    pixels = read_photo(photo)
    scale = max(frame[0] / pixels.shape[0], frame[1] / pixels.shape[1])
    size = (max(frame[1], round(pixels.shape[1] * scale)), max(frame[0], round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    top, left = (small.shape[0] - frame[0]) // 2, (small.shape[1] - frame[1]) // 2
    clean = small[top : top + frame[0], left : left + frame[1]].astype(np.float32) / np.float32(255)
    spoiled = EVALUATION[kind](clean, np.random.default_rng(SEED))
    return planes(clean), planes(spoiled)


def planes(image: Map) -> Pixels:
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


def equal_grid(side: int, overlap: int, frame: Frame) -> Grid:
    """Tiles of exactly `side`: the server would make them a little smaller where they then still cover the frame."""

    def axis(length: int) -> Axis:
        if length <= side:
            return Axis(length, length, (0,), 0)
        count = -(-(length - overlap) // (side - overlap))
        steps = (length - side) // MULTIPLE
        return Axis(length, side, tuple(k * steps // (count - 1) * MULTIPLE for k in range(count)), overlap)

    return Grid(axis(frame[0]), axis(frame[1]))


def restored_in_tiles(run: Run, image: Pixels, grid: Grid) -> Pixels:
    """As the server does it, to 16 bits."""
    assembly = Assembly(grid, np.dtype(np.uint16))
    for tile in grid:
        assembly.add(tile, run(tiling.cut(image, tile)))
    return assembly.samples.astype(np.float32) / np.float32(65535)


def measures(clean: Pixels, spoiled: Pixels, whole: Pixels, tiled: Pixels, grid: Grid) -> dict[str, float]:
    """PSNR in dB between the answers and to the clean photo; the seams in 8-bit levels per pixel, and elsewhere."""
    at_seams, elsewhere = seam_gradients(tiled - whole, grid)
    return {
        "whole_vs_tiled": psnr(whole, tiled),
        "input_vs_clean": psnr(clean, spoiled),
        "whole_vs_clean": psnr(clean, whole),
        "tiled_vs_clean": psnr(clean, tiled),
        "at_seams": at_seams,
        "elsewhere": elsewhere,
    }


def seam_gradients(difference: Pixels, grid: Grid) -> tuple[float, float]:
    """Mean |gradient| of tiled minus whole, across the seams, at the seams and elsewhere, in 8-bit levels per pixel.

    The difference is averaged along the seam over ALONG_SEAM pixels before the gradient is taken. A seam is the pixels
    over which two tiles are blended and the next on either side; where there is no overlap, the two that meet.
    """
    levels = difference.mean(axis=0) * 255
    at_seams, elsewhere = [], []
    for axis, lines in ((grid.vertical, levels), (grid.horizontal, levels.T)):
        usable = lines.shape[1] // ALONG_SEAM * ALONG_SEAM
        smooth = lines[:, :usable].reshape(lines.shape[0], -1, ALONG_SEAM).mean(axis=2)
        gradient = np.abs(np.diff(smooth, axis=0)).mean(axis=1)  # one for each pair of rows
        seam = np.zeros(len(gradient), bool)
        for before, after in itertools.pairwise([span for span in axis.spans if span.first == span.last]):
            seam[before.stop - 1 : after.start] = True
        at_seams.append(gradient[seam])
        elsewhere.append(gradient[~seam])
    return float(np.concatenate(at_seams).mean()), float(np.concatenate(elsewhere).mean())


def psnr(reference: Pixels, image: Pixels) -> float:
    return float(-10 * np.log10(np.mean((reference - image) ** 2, dtype=np.float64)))


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(row: dict[str, object]) -> tuple[object, ...]:
    return row["photo"], row["kind"], row["side"], row["overlap"]


def table(rows: list[dict[str, object]]) -> str:
    """Markdown: the mean over the photos and kinds of damage, one line for each tile side and overlap."""
    groups: defaultdict[tuple[object, object], list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        groups[row["side"], row["overlap"]].append(row)
    return "\n".join(lines(groups, sorted({str(row["kind"]) for row in rows})))


def lines(groups: dict[tuple[object, object], list[dict[str, object]]], kinds: list[str]) -> Iterator[str]:
    yield f"| tile | overlap | frames | {' | '.join(kinds)} | to clean: whole, tiled | seam / elsewhere |"
    yield "|---|---|---|" + "---|" * (len(kinds) + 2)
    for (side, overlap), rows in sorted(groups.items(), key=lambda item: str(item[0])):
        by_kind = [mean([row for row in rows if row["kind"] == kind], "whole_vs_tiled") for kind in kinds]
        seams, rest = mean(rows, "at_seams"), mean(rows, "elsewhere")
        yield (
            f"| {side} | {overlap} | {len(rows)} | {' | '.join(f'{value:.1f}' for value in by_kind)} "
            f"| {mean(rows, 'whole_vs_clean'):.2f}, {mean(rows, 'tiled_vs_clean'):.2f} "
            f"| {seams:.3f} / {rest:.3f} = {seams / rest:.1f} |"
        )


def mean(rows: list[dict[str, object]], name: str) -> float:
    return float(np.mean([row[name] for row in rows])) if rows else float("nan")


if __name__ == "__main__":
    sys.exit(main())
