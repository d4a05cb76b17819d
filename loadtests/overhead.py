"""Overhead: what the server adds to a lone request, beyond the run of the network.

Starts a server with the simulated device, sends one 256x256 PNG after the other and prints the milliseconds that were
not inference, by the server's own Server-Timing header and by the client's clock.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import httpx
import numpy as np

STAGES = ("decode", "queue", "inference", "encode", "total")
SIDE = 256
WARM_UP_REQUESTS = 20
READY_TIMEOUT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with simulated_server() as url, httpx.Client(base_url=url) as client:
        rows = [timed_request(client, photo_like_png()) for _ in range(options.requests + WARM_UP_REQUESTS)]
    rows = rows[WARM_UP_REQUESTS:]
    print(f"{SIDE}x{SIDE} PNG in and out, one client, {len(rows)} requests, {os.cpu_count()} cores")
    print("| milliseconds | median | p95 |\n|---|---|---|")
    for stage in STAGES:
        print(table_row(stage, [row[stage] for row in rows]))
    print(table_row("total without inference", [row["total"] - row["inference"] for row in rows]))
    print(table_row("client without inference", [row["client"] - row["inference"] for row in rows]))
    return 0


def table_row(name: str, values: list[float]) -> str:
    return f"| {name} | {statistics.median(values):.2f} | {statistics.quantiles(values, n=20)[-1]:.2f} |"


def timed_request(client: httpx.Client, image: bytes) -> dict[str, float]:
    """The milliseconds of each stage of one restoration, and of the whole as the client sees it."""
    began = time.perf_counter()
    answer = client.post("/restore", content=image, headers={"Content-Type": "image/png"})
    elapsed_ms = (time.perf_counter() - began) * 1e3
    answer.raise_for_status()
    timings = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])}
    return timings | {"client": elapsed_ms}


def photo_like_png() -> bytes:
    """A smooth scene with a little noise: it compresses about as a photo does."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noisy = np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", noisy)[1])


@contextmanager
def simulated_server() -> Iterator[str]:
    """The base URL of a server of its own, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server.cli", "serve", "--backend", "simulated", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_until_ready(url: str) -> None:
    give_up = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < give_up:
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} was not ready after {READY_TIMEOUT_S:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
