"""Large photo: peak memory and time of a server that restores 24-megapixel JPEGs as jobs, from upload to result.

    python loadtests/large_photo.py                       # one photo, the shipped network: 5 minutes and more
    python loadtests/large_photo.py --jobs 2 --simulated  # two at the same time; their tiles come back as they are
    python loadtests/large_photo.py --no-guide            # every tile keeps its own tone: what the guide costs

The simulated device takes the memory of everything but the network's own run.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from peers import SimulatedDevice, promptir, shipped

POLL_S = 0.25
MEGAPIXEL = 10**6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--jobs", type=int, default=1, help="photos sent at the same time; two run at a time")
    parser.add_argument("--simulated", action="store_true", help="no network: a device that takes no time")
    parser.add_argument("--no-guide", action="store_true", help="with PROMPTIR_TONE_GUIDE=false")
    options = parser.parse_args()
    photos = [jpeg(options.height, options.width, seed) for seed in range(options.jobs)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"jobs_folder": Path(folder) / "jobs", "threads": 1, "tone_guide": not options.no_guide}
        runs = Path(folder) / "runs.csv"
        with promptir(SimulatedDevice(0, 0), runs, **settings) if options.simulated else shipped(**settings) as peer:
            print(f"ready: {peer.peak_mb():.0f} MB at most")
            began, began_cpu = time.perf_counter(), peer.cpu_s()
            documents = ended([submit(peer.url, photo) for photo in photos])
            seconds, cpu = time.perf_counter() - began, peer.cpu_s() - began_cpu
            print(
                f"{options.jobs} x {options.height * options.width / MEGAPIXEL:.0f} megapixels, "
                f"{len(photos[0]) / 1e6:.1f} MB and {documents[0]['tiles']['total']} tiles each: {seconds:.0f} s, "
                f"{cpu:.0f} s of CPU, {peer.peak_mb():.0f} MB at most"
            )
    return 0


def submit(url: str, photo: bytes) -> str:
    """The address of a new job."""
    target = f"{url}/v1/jobs?format=jpeg&report=true"
    request = urllib.request.Request(target, photo, {"Content-Type": "image/jpeg"})  # noqa: S310 - an address of ours
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        return url + str(answer.headers["Location"])


def ended(jobs: list[str]) -> list[dict[str, Any]]:
    """The documents of all jobs once each has ended; RuntimeError for one that failed."""
    documents: list[dict[str, Any]] = []
    while len(documents) < len(jobs):
        time.sleep(POLL_S)
        with urllib.request.urlopen(jobs[len(documents)]) as answer:  # noqa: S310 - the same
            document = json.load(answer)
        if document["state"] not in ("queued", "running"):
            documents.append(document)
            if document["state"] != "done":
                raise RuntimeError(f"a job did not end well: {document}")
    return documents


def jpeg(height: int, width: int, seed: int) -> bytes:
    """A smooth scene with some noise, as JPEG."""
    rng = np.random.default_rng(seed)
    scene = cv2.resize(rng.integers(0, 256, (17, 25, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    for top in range(0, height, 256):  # in bands: the noise of all of it would be gigabytes
        band = scene[top : top + 256]
        np.copyto(band, np.clip(band + rng.normal(0, 6, band.shape), 0, 255).astype(np.uint8))
    return cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


if __name__ == "__main__":
    sys.exit(main())
