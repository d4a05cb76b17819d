"""Tone study: measures the seams of large tiled photos with and without the tone guide.

    python loadtests/tone_study.py --photos FOLDER   # writes table and picture of docs/large-photos.md: half an hour

Each scene is a photo from the folder, enlarged and degraded as in training. A study can be resumed, because scenes in
the output are skipped; use a different output for another artifact.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tone import tone

from models.artifact import DEFAULT_ARTIFACT, Manifest
from models.photos import photo_paths, read_photo
from models.training.evaluation_sets import EVALUATION
from server import backends
from server.backends.base import ModelInput, Pixels
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.tiling import Grid
from server.restore.guide import SIGMA_CELLS, Guide
from server.settings import Settings

Run = Callable[[Pixels], Pixels]
Row = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "large-photos.md"
PICTURE = ROOT / "docs" / "images" / "large-photo.jpg"
BEGIN, END = "<!-- tone: begin -->", "<!-- tone: end -->"
SEED = 5
MEGAPIXEL = 10**6
MAX_WHOLE_PIXELS = 3 * MEGAPIXEL
"""Larger runs would take 10 GB."""
MAX_VARIED_PIXELS = 8 * MEGAPIXEL
"""Variants that the server does not use are skipped for larger photos, because each needs another copy."""
SIGMAS = (2.0, 8.0, 16.0)
ALWAYS, NEVER = 1e-6, 1e6
"""Disagreement thresholds at which the guide always or never applies."""
PICTURE_WIDTH = 760
PICTURE_QUALITY = 88


class Scene(NamedTuple):
    """Size, degradation and photo of a scene; photos are numbered in the order of their names."""

    kind: str
    width: int
    height: int
    photo: int

    @property
    def name(self) -> str:
        return f"{self.kind} {self.width}x{self.height} {self.photo}"


PICTURED = Scene("haze", 2048, 1248, 15)
SCENES = (
    PICTURED,
    Scene("haze", 1800, 1200, 2),
    Scene("haze", 1800, 1200, 40),
    Scene("noise25", 1800, 1200, 13),
    Scene("rain", 1800, 1200, 11),
    Scene("noise25-jpeg85", 1800, 1200, 25),
    Scene("clean", 1800, 1200, 26),
    Scene("clean", 2560, 1600, 62),
    Scene("haze", 3000, 2000, 9),
    Scene("noise25-jpeg85", 6000, 4000, 39),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--artifact", type=Path, default=DEFAULT_ARTIFACT)
    parser.add_argument("--output", type=Path, default=Path("tone.jsonl"))
    parser.add_argument(
        "--whole",
        nargs="*",
        default=[scene.kind for scene in SCENES],
        help="degradations to restore also in one run",
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    run, multiple = start(options)
    paths, done = photo_paths(options.photos), {row["scene"] for row in rows_of(options.output)}
    for scene in SCENES:
        if scene.name in done:
            continue
        photo = read_photo(paths[scene.photo % len(paths)])
        row = study(scene, photo, run, multiple, whole=scene.kind in options.whole)
        with options.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    rows = rows_of(options.output)
    write(rows, Manifest.load(options.artifact))
    print("\n".join(variants(rows)))
    return 0


def start(options: argparse.Namespace) -> tuple[Run, int]:
    """Load the artifact with the server's backend; returns a function of (3, H, W) and the size multiple."""
    settings = Settings.from_environment({"artifact": options.artifact, "backend": "onnx", "threads": options.threads})
    backend = backends.create(settings.backend.of_model(settings.backend.artifact[0]), 1)
    info = backend.start()
    return lambda pixels: backend.run(ModelInput(pixels[np.newaxis])).pixels[0], info.model.size_multiple


def study(scene: Scene, photo: Any, run: Run, multiple: int, *, whole: bool) -> Row:
    """Restore a scene with every variant and measure it."""
    clean = enlarged(photo, scene)
    spoiled = EVALUATION[scene.kind](clean, np.random.default_rng(SEED))
    clean, spoiled = (np.ascontiguousarray(image.transpose(2, 0, 1)) for image in (clean, spoiled))
    pixels = scene.width * scene.height
    grid = tiling.plan(scene.height, scene.width, multiple, Settings().whole_pixels)
    answers = restored(spoiled, grid, run, ways(grid, varied=pixels <= MAX_VARIED_PIXELS))
    frame = None
    if whole and pixels <= MAX_WHOLE_PIXELS:
        (tile,) = tiling.plan(scene.height, scene.width, multiple)
        frame = np.clip(tiling.crop(run(tiling.cut(spoiled, tile)), tile), 0, 1)
    if scene == PICTURED:
        draw([spoiled, answers["tiles"], answers["guide"]])
    row: Row = {"scene": scene.name, "kind": scene.kind, "megapixels": pixels / MEGAPIXEL, "tiles": len(grid)}
    row["ways"] = {name: measures(clean, spoiled, answer, frame, grid) for name, answer in answers.items()}
    if frame is not None:
        row["ways"]["whole"] = measures(clean, spoiled, frame, None, grid)
    row["perfect"] = tone(spoiled, clean, grid)
    return row


def enlarged(photo: Any, scene: Scene) -> Pixels:
    """Scale a photo (H, W, 3) to cover the scene and crop its centre."""
    scale = max(scene.width / photo.shape[1], scene.height / photo.shape[0])
    size = max(scene.width, round(photo.shape[1] * scale)), max(scene.height, round(photo.shape[0] * scale))
    large = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    top, left = (size[1] - scene.height) // 2, (size[0] - scene.width) // 2
    return np.asarray(large[top : top + scene.height, left : left + scene.width], np.float32) / np.float32(255)


def ways(grid: Grid, *, varied: bool) -> dict[str, Guide | None]:
    served: dict[str, Guide | None] = {"tiles": None, "guide": Guide(grid)}
    others: dict[str, Guide | None] = {f"sigma {sigma}": Guide(grid, sigma) for sigma in SIGMAS}
    others |= {"always": Guide(grid, disagreement=ALWAYS), "never": Guide(grid, disagreement=NEVER)}
    return served | others if varied else served


def restored(image: Pixels, grid: Grid, run: Run, guides: dict[str, Guide | None]) -> dict[str, Pixels]:
    """Restore the photo in tiles with each guide, like the server but in float32."""
    assembly = Assembly(grid, np.dtype(np.float32))
    answer = None
    for guide in filter(None, guides.values()):
        reduced = guide.reduce(lambda rows, columns: image[:, rows, columns])
        answer = run(reduced) if answer is None else answer
        guide.take(answer)
    for tile in grid:
        pixels = tiling.cut(image, tile)
        of_tile = run(pixels)
        assembly.add(tile, of_tile)
        for guide in filter(None, guides.values()):
            guide.note(tile, pixels, of_tile)
    answers = {}
    for name, guide in guides.items():
        answers[name] = np.array(assembly.pixels, np.float32)
        if guide is not None:
            guide.settle(answers[name])
    return answers


def measures(clean: Pixels, spoiled: Pixels, answer: Pixels, frame: Pixels | None, grid: Grid) -> Row:
    seams, elsewhere = tone(spoiled, answer, grid)
    return {
        "seams": seams,
        "elsewhere": elsewhere,
        "to_clean": psnr(clean, answer),
        "to_whole": None if frame is None else psnr(frame, answer),
    }


def psnr(one: Pixels, other: Pixels) -> float | None:
    square = float(np.mean((one - other) ** 2, dtype=np.float64))
    return -10 * np.log10(square) if square else None


def draw(images: list[Pixels]) -> None:
    """Draw the upload, the tiled result without the guide and the tiled result with it, side by side."""
    height = round(PICTURE_WIDTH * images[0].shape[1] / images[0].shape[2])
    size = (PICTURE_WIDTH, height)
    shown = [cv2.resize(image.transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA) for image in images]
    picture = np.rint(np.concatenate(shown, axis=1)[:, :, ::-1] * 255).astype(np.uint8)
    cv2.imwrite(str(PICTURE), picture, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(rows: list[Row], manifest: Manifest) -> None:
    """Write the table between the marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    caption = f"Measured with {manifest.name} ({manifest.precision}, model {manifest.sha256[:12]})."
    tables = "\n".join([caption, "", *table(rows)])
    PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


def table(rows: list[Row]) -> Iterator[str]:
    yield (
        "| photo | MP | without guide: seams p95, max | elsewhere | with guide: seams p95, max | elsewhere "
        "| p95 excess at seams, and of the clean photo | dB to the whole frame | dB to the clean photo |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        alone, guide = row["ways"]["tiles"], row["ways"]["guide"]
        cells = [
            f"{steps[0]:.1f}, {steps[1]:.0f}" for way in (alone, guide) for steps in (way["seams"], way["elsewhere"])
        ]
        more = [of[0][0] - of[1][0] for of in ((guide["seams"], guide["elsewhere"]), row["perfect"])]
        cells.append(", ".join(f"{levels:+.1f}" for levels in more))
        to = [f"{decibels(alone[of])} → {decibels(guide[of])}" for of in ("to_whole", "to_clean")]
        yield f"| {row['kind']} | {row['megapixels']:.1f} | {' | '.join(cells)} | {' | '.join(to)} |"


def variants(rows: list[Row]) -> Iterator[str]:
    """Summarise each variant: excess of steps at seams, and mean errors by degradation."""
    rows = [row for row in rows if "always" in row["ways"]]
    kinds = sorted({row["kind"] for row in rows})
    to = " | ".join(f"{kind} to clean" for kind in kinds)
    yield f"| variant | seams p95 - elsewhere p95, worst photo | {to} | haze to the whole frame |"
    yield "|---|---|" + "---|" * (len(kinds) + 1)
    names = {
        "tiles": "without guide",
        "guide": f"sigma {SIGMA_CELLS}, served",
        "always": "frame's tone, always",
        "never": "frame's tone, never",
    }
    for way in rows[0]["ways"] if rows else ():
        of_way = [(row["kind"], row["ways"][way]) for row in rows if way in row["ways"]]
        worst = max(found["seams"][0] - found["elsewhere"][0] for _, found in of_way)
        to_clean = [mean(found["to_clean"] for kind, found in of_way if kind == of) for of in kinds]
        to_whole = mean(found["to_whole"] for kind, found in of_way if kind == "haze")
        yield f"| {names.get(way, way)} | {worst:.1f} | {' | '.join(map(decibels, to_clean))} | {decibels(to_whole)} |"


def mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
