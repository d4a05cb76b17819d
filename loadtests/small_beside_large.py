"""Small beside large: what images of 64x64 wait for while the same server restores a photo of 24 megapixels in tiles.

Run as `python loadtests/small_beside_large.py [--photos 2]`. The simulated device takes 6 ms a run and 488 ms a
megapixel, so that a tile of the photo takes some 110 ms and the photo 15 s. The small ones come one after another.
"""

import argparse
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
from large_photo import jpeg
from peers import Peer, SimulatedDevice, promptir

DEVICE = SimulatedDevice(base_ms=6.0, ms_per_megapixel=488.0)
PAUSE_S = 0.05
ALONE_S = 5.0
SMALL_SIDE = 64
TIMEOUT_S = 300.0
HEADER = "| 64x64 | sent | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--photos", type=int, default=2, help="one after another (2)")
    options = parser.parse_args()
    photo = jpeg(options.height, options.width, seed=1)
    with tempfile.TemporaryDirectory() as folder, promptir(DEVICE, Path(folder) / "runs.csv") as peer:
        print(HEADER)
        print(row("alone", small_ones(peer, until=time.perf_counter() + ALONE_S)))
        for _ in range(options.photos):
            took: list[float] = []
            sending = threading.Thread(target=lambda took=took: took.append(seconds(peer, photo, "jpeg")))
            sending.start()
            waits = small_ones(peer, beside=sending)
            sending.join()
            if not took:
                raise RuntimeError("the photo was not restored")
            print(row(f"beside the photo, {took[0]:.1f} s", waits))
        print(f"{peer.peak_mb():.0f} MB at most")
    return 0


def small_ones(peer: Peer, *, until: float = 0.0, beside: threading.Thread | None = None) -> list[float]:
    """Seconds that each of them took."""
    rng, found = np.random.default_rng(2), []
    while time.perf_counter() < until or (beside is not None and beside.is_alive()):
        image = rng.integers(0, 256, (SMALL_SIDE, SMALL_SIDE, 3), np.uint8)  # equal ones would share a run
        found.append(seconds(peer, cv2.imencode(".png", image)[1].tobytes(), "png"))
        time.sleep(PAUSE_S)
    return found


def seconds(peer: Peer, image: bytes, kind: str) -> float:
    """Of one restoration; raises for any answer but 200."""
    began = time.perf_counter()
    target, headers = f"{peer.url}/restore?format={kind}", {"Content-Type": f"image/{kind}"}
    request = urllib.request.Request(target, image, headers)  # noqa: S310 - an address of ours
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the same
        answer.read()
    return time.perf_counter() - began


def row(name: str, waits: list[float]) -> str:
    p50, p99, slowest = (1e3 * float(value) for value in np.quantile(waits, [0.5, 0.99, 1.0]))
    return f"| {name} | {len(waits)} | {p50:.1f} | {p99:.1f} | {slowest:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
