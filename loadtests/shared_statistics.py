"""Shared statistics: tiles that use the global statistics of one pass over the frame, compared with tiles on their own.

    python loadtests/shared_statistics.py --photos PHOTO... --output shared.jsonl
    python loadtests/shared_statistics.py --table shared.jsonl

A pass answers with the attention maps and prompt weights of what it saw; the tiles are then restored with them. What
differs is what the pass sees, within the pixels of one tile: see `passes`.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from shared_graphs import export_all
from tiling_study import FRAME, KINDS, MULTIPLE, equal_grid, frames, mean, measures, planes, read_rows

from server.backends.base import Pixels
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.tiling import Grid, Tile

Statistics = NDArray[np.float32]
SIDE = 256
OVERLAP = 64
CROPS = (16, 32, 64)
"""Sides of the crops that are looked at in one pass."""
MOSAICS = 4
PROMPT_WEIGHTS = 15
"""Three prompts of five components: the last of the statistics."""


@dataclass(frozen=True)
class Graphs:
    """The three sessions of shared_graphs.py, on one thread."""

    giving: onnxruntime.InferenceSession
    pooled: onnxruntime.InferenceSession
    taking: onnxruntime.InferenceSession

    @classmethod
    def load(cls, folder: Path) -> "Graphs":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False
        names = ("giving", "pooled", "taking")
        return cls(*(onnxruntime.InferenceSession(folder / f"{name}.onnx", options) for name in names))

    def give(self, image: Pixels) -> tuple[Pixels, Statistics]:
        restored, statistics = self.giving.run(None, {"image": image[np.newaxis]})
        return restored[0], statistics[0]

    def pool(self, images: Pixels) -> Statistics:
        return np.asarray(self.pooled.run(["statistics"], {"image": images})[0][0])

    def take(self, image: Pixels, statistics: Statistics, tile: Tile, frame: tuple[int, int]) -> Pixels:
        window = np.array([[tile.top, tile.left, *frame]], np.float32)
        inputs = {"image": image[np.newaxis], "statistics": statistics[np.newaxis], "window": window}
        return np.asarray(self.taking.run(None, inputs)[0][0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--output", type=Path, default=Path("shared.jsonl"))
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--overlap", type=int, default=OVERLAP)
    parser.add_argument("--frame", type=int, nargs=2, default=FRAME, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--ways", nargs="+", help="only these")
    parser.add_argument("--table", type=Path, help="print the table of these runs and stop")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_rows(options.table))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        export_all(Path(folder))
        graphs = Graphs.load(Path(folder))
    done = {(row["photo"], row["kind"], row["way"]) for row in read_rows(options.output)}
    for photo, kind in itertools.product(options.photos, options.kinds):
        for row in compare(graphs, *frames(photo, kind, tuple(options.frame)), options, done, (photo.stem, kind)):
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return 0


def compare(
    graphs: Graphs,
    clean: Pixels,
    spoiled: Pixels,
    options: argparse.Namespace,
    done: set[tuple[object, ...]],
    name: tuple[str, str],
) -> Iterator[dict[str, object]]:
    grid = equal_grid(options.side, options.overlap, spoiled.shape[1:])
    ways = [way for way in (*passes(grid), "own", *ORACLES) if options.ways is None or way in options.ways]
    ways = [way for way in ways if (*name, way) not in done]
    if not ways:
        return
    restored, exact = graphs.give(spoiled)
    whole = np.clip(restored, 0, 1)
    for way in ways:
        began = time.process_time()
        tiled = restored_in_tiles(graphs, spoiled, grid, way, exact)
        seconds = time.process_time() - began
        found = measures(clean, spoiled, whole, tiled, grid)
        yield {"photo": name[0], "kind": name[1], "way": way, "tiles": len(grid), "cpu_s": seconds, **found}


ORACLES = ("whole frame", "whole frame, prompts only", "whole frame, prompts stretched over the tile")
"""With the statistics of the whole frame itself: how good sharing can become."""


def restored_in_tiles(graphs: Graphs, image: Pixels, grid: Grid, way: str, exact: Statistics) -> Pixels:
    frame = (image.shape[1], image.shape[2])
    shared = exact if way in ORACLES else None
    if way in (known := passes(grid)):
        shared = known[way](graphs, image)
    assembly = Assembly(grid, np.dtype(np.uint16))
    for tile in grid:
        crop = tiling.cut(image, tile)
        if shared is None:
            restored = graphs.give(crop)[0]
        elif way.endswith("prompts only"):
            own = graphs.give(crop)[1]
            own[-PROMPT_WEIGHTS:] = shared[-PROMPT_WEIGHTS:]
            restored = graphs.take(crop, own, tile, frame)
        elif way.endswith("stretched over the tile"):
            at_origin = Tile(0, 0, tile.height, tile.width, tile.padded_height, tile.padded_width)
            restored = graphs.take(crop, shared, at_origin, (tile.padded_height, tile.padded_width))
        else:
            restored = graphs.take(crop, shared, tile, frame)
        assembly.add(tile, restored)
    return assembly.samples.astype(np.float32) / np.float32(65535)


def passes(grid: Grid) -> dict[str, Callable[[Graphs, Pixels], Statistics]]:
    """What gives the shared statistics, by name; all but the last see no more pixels than one tile has."""
    side = grid.vertical.side

    def reduced(graphs: Graphs, image: Pixels) -> Statistics:
        scale = side / np.sqrt(image.shape[1] * image.shape[2])
        height, width = (int(length * scale) // MULTIPLE * MULTIPLE for length in image.shape[1:])
        small = cv2.resize(image.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA)
        return graphs.give(planes(small))[1]

    def mosaic(crop: int) -> Callable[[Graphs, Pixels], Statistics]:
        return lambda graphs, image: graphs.give(laid_out(crops(image, crop, side // crop)))[1]

    def mosaics(crop: int, count: int) -> Callable[[Graphs, Pixels], Statistics]:
        def look(graphs: Graphs, image: Pixels) -> Statistics:
            rng = np.random.default_rng(0)
            parts = [crops(image, crop, side // crop, rng) for _ in range(count)]
            return np.mean([graphs.give(laid_out(part))[1] for part in parts], axis=0, dtype=np.float32)

        return look

    def batch(crop: int) -> Callable[[Graphs, Pixels], Statistics]:
        def look(graphs: Graphs, image: Pixels) -> Statistics:
            return graphs.pool(np.stack([part for row in crops(image, crop, side // crop) for part in row]))

        return look

    def tile_mean(graphs: Graphs, image: Pixels) -> Statistics:
        return np.mean([graphs.give(tiling.cut(image, tile))[1] for tile in grid], axis=0, dtype=np.float32)

    return {
        "reduced frame": reduced,
        **{f"mosaic of {crop}": mosaic(crop) for crop in CROPS},
        **{f"mean of {MOSAICS} mosaics of {crop}": mosaics(crop, MOSAICS) for crop in CROPS[:2]},
        f"pooled crops of {CROPS[-1]}": batch(CROPS[-1]),
        "mean over all tiles": tile_mean,
    }


def crops(image: Pixels, side: int, count: int, rng: np.random.Generator | None = None) -> list[list[Pixels]]:
    """count x count crops at full scale, on the network's grid: spread evenly, or each drawn within its share."""

    def start(index: int, length: int) -> int:
        last = (length - side) // MULTIPLE
        if rng is None:
            return index * last // (count - 1) * MULTIPLE
        return min(int((index + rng.random()) / count * length) // MULTIPLE, last) * MULTIPLE

    height, width = image.shape[1:]
    places = [[(start(row, height), start(column, width)) for column in range(count)] for row in range(count)]
    return [[image[:, top : top + side, left : left + side] for top, left in row] for row in places]


def laid_out(rows: list[list[Pixels]]) -> Pixels:
    return np.ascontiguousarray(np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1))


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    kinds = sorted({str(row["kind"]) for row in rows})
    yield f"| statistics of | {' | '.join(kinds)} | to clean: whole, tiled | seam / elsewhere | CPU s |"
    yield "|---|" + "---|" * (len(kinds) + 3)
    groups: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        groups[str(row["way"])].append(row)
    for way, group in groups.items():
        by_kind = [mean([row for row in group if row["kind"] == kind], "whole_vs_tiled") for kind in kinds]
        yield (
            f"| {way} | {' | '.join(f'{value:.1f}' for value in by_kind)} "
            f"| {mean(group, 'whole_vs_clean'):.2f}, {mean(group, 'tiled_vs_clean'):.2f} "
            f"| {mean(group, 'at_seams'):.3f} / {mean(group, 'elsewhere'):.3f} | {mean(group, 'cpu_s'):.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
