"""Large photo: the peak memory of restoring a 24-megapixel JPEG in tiles, decoding and encoding included.

Runs the server's own tiling and assembly around the shipped network, on one thread, with a bound on the tiles that are
restored; the others are answered with themselves, which takes the same memory and saves an hour.
"""

import argparse
import resource
import sys
import time

import cv2
import numpy as np

from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.tiling import DEFAULT_OVERLAP, DEFAULT_TILE

MULTIPLE = 8
EIGHT_BITS = np.dtype(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--tile", type=int, default=DEFAULT_TILE)
    parser.add_argument("--overlap", type=int, default=DEFAULT_OVERLAP)
    parser.add_argument("--runs", type=int, default=3, help="tiles that the network restores")
    options = parser.parse_args()
    photo = jpeg(options.height, options.width)
    print(f"start: {peak_mb():.0f} MB")
    began = time.process_time()
    planes = np.ascontiguousarray(cv2.imdecode(photo, cv2.IMREAD_COLOR_RGB).transpose(2, 0, 1))
    print(f"decoded: {peak_mb():.0f} MB, {time.process_time() - began:.2f} s of CPU")
    grid = tiling.plan(options.height, options.width, MULTIPLE, None, options.tile, options.overlap)
    restored, held = restore(planes, grid, options.runs)
    print(f"restored: {peak_mb():.0f} MB, {len(grid)} tiles, at most {held / 1e6:.1f} MB of seams")
    began = time.process_time()
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(restored.transpose(1, 2, 0)[:, :, ::-1]))[1]
    print(f"encoded: {peak_mb():.0f} MB, {time.process_time() - began:.2f} s of CPU, {len(encoded) / 1e6:.1f} MB")
    return 0


def restore(planes: np.ndarray, grid: tiling.Grid, runs: int) -> tuple[np.ndarray, int]:
    """The assembled samples (3, H, W), and the most bytes that seams took."""
    from tiling_study import onnx_run

    run = onnx_run()
    assembly, held, busy = Assembly(grid, EIGHT_BITS), 0, 0.0
    for place, tile in enumerate(grid):
        began = time.process_time()
        crop = tiling.pad(planes[:, tile.rows, tile.columns] * np.float32(1 / 255), tile)
        cutting = time.process_time() - began
        answer = run(crop) if place < runs else crop
        began = time.process_time()
        assembly.add(tile, answer)
        busy += cutting + time.process_time() - began
        held = max(held, assembly.held_bytes)
    print(f"cutting and blending: {busy:.2f} s of CPU")
    return assembly.samples, held


def jpeg(height: int, width: int) -> np.ndarray:
    """A smooth scene with some noise, as JPEG; made in bands so that making it is not what takes the memory."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 256, (17, 25, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    for top in range(0, height, 256):
        band = scene[top : top + 256]
        np.copyto(band, np.clip(band + rng.normal(0, 6, band.shape), 0, 255).astype(np.uint8))
    return cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    sys.exit(main())
