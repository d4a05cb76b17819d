"""Codec bench: what decoding and encoding a photo takes here, against Pillow, in one run.

Prints the least of several runs in milliseconds of processor time, of all threads together: other work on the machine
hardly moves it. Takes the photo that is given, or a made one.
"""

import argparse
import io
import platform
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image

from server.formats import codec
from server.formats.codec import OutputFormat
from server.formats.header import probe
from server.formats.output import OutputOptions, PngEffort
from server.settings import LimitSettings

WIDTH, HEIGHT = 1920, 1080
QUALITY = 90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", help="any image; resized to 1920 x 1080")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    codec.silence_decoder_messages()
    samples = photo(options.photo)
    print(f"{WIDTH} x {HEIGHT} RGB, quality {QUALITY}, least of {options.repeats}; {platform.machine()}, one thread\n")
    print("| | Pillow ms | here ms | Pillow KB | here KB |\n|---|---|---|---|---|")
    for name, theirs, ours in decoders(samples):
        row(f"{name} decode", theirs, ours, options.repeats)
    for name, theirs, ours in encoders(samples):
        row(f"{name} encode", theirs, ours, options.repeats)
    return 0


def decoders(samples: np.ndarray) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Pillow's call up to an array, and ours up to the floats that the network takes."""
    rows = []
    for name, kind in (("JPEG", "JPEG"), ("PNG", "PNG"), ("WebP", "WEBP"), ("AVIF", "AVIF"), ("TIFF (LZW)", "TIFF")):
        data = saved(samples, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {"quality": QUALITY}))
        theirs = lambda data=data: np.asarray(PIL.Image.open(io.BytesIO(data)))  # noqa: E731
        ours = lambda data=data: codec.decode(data, probe(data, LimitSettings()))  # noqa: E731
        rows.append((name, theirs, ours))
    return rows


def encoders(samples: np.ndarray) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Pillow's call with its own defaults at the same quality, and ours from the network's floats."""
    data = saved(samples, "PNG")
    image = codec.decode(data, probe(data, LimitSettings()))
    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = []
    for output in OutputFormat:
        theirs = lambda output=output: saved(samples, output.name, quality=QUALITY)  # noqa: E731
        ours = lambda output=output: codec.encode(image, image.planes, output, QUALITY)  # noqa: E731
        rows.append((output.name, theirs, ours))
    small = OutputOptions(effort=PngEffort.SMALL)
    rows.append(
        (
            "PNG, effort small,",
            lambda: saved(samples, "PNG", compress_level=9),
            lambda: codec.encode(image, image.planes, OutputFormat.PNG, QUALITY, small),
        )
    )
    return rows


def row(name: str, theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> None:
    (their_ms, their_result), (our_ms, our_result) = least(theirs, repeats), least(ours, repeats)
    sizes = [f"{len(one) / 1e3:.0f}" if isinstance(one, bytes) else "" for one in (their_result, our_result)]
    print(f"| {name} | {their_ms:.1f} | {our_ms:.1f} | {sizes[0]} | {sizes[1]} |")


def least(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """The least milliseconds of processor time that the work took, and its result."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return min(times) * 1e3, result


def saved(samples: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(samples).save(file, kind, **options)
    return file.getvalue()


def photo(path: str | None) -> np.ndarray:
    """A photo of the size that is measured, with the noise of a sensor; a scene of blurred blocks without a path."""
    rng = np.random.default_rng(0)
    if path is None:
        scene = cv2.resize(
            rng.integers(0, 256, (90, 160, 3), dtype=np.uint8), (WIDTH, HEIGHT), None, 0, 0, cv2.INTER_CUBIC
        )
    else:
        scene = cv2.resize(
            np.asarray(PIL.Image.open(path).convert("RGB")), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
        )
    return np.clip(scene + rng.normal(0, 1.5, scene.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
