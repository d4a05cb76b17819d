"""Reference batcher: the baseline of the benchmark, as an experienced engineer would write it in an hour.

Starlette on uvicorn (uvloop, httptools), OpenCV in two threads, one bucket per shape, no batching delay: images collect
while the device runs, and one full batch is submitted ahead so that the device never waits for the event loop. There
are no checks, limits, logs or refusals. POST /restore takes an image as body; ?format= replaces PNG.
"""

import argparse
import asyncio
import functools
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--port", type=int, default=8001)
options.add_argument("--base-ms", type=float, default=6.0)
options.add_argument("--ms-per-megapixel", type=float, default=488.0)
options.add_argument("--max-batch", type=int, default=8)

CODECS = ThreadPoolExecutor(2)
DEVICE = ThreadPoolExecutor(1)  # runs one batch at a time; a second one waits in its queue


def run_device(images: list[np.ndarray], base_ms: float, ms_per_megapixel: float) -> np.ndarray:
    ends_at = time.perf_counter() + (base_ms + ms_per_megapixel * len(images) * images[0][0].size / 1e6) / 1e3
    output = np.stack(images)
    time.sleep(max(0.0, ends_at - time.perf_counter()))
    return output


def decode(data: bytes) -> np.ndarray:
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) * np.float32(1 / 255)


def encode(output: np.ndarray, suffix: str) -> bytes:
    pixels = (np.clip(output, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    fast = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY] if suffix == ".png" else []
    return cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), fast)[1].tobytes()


class Batcher:
    def __init__(self, base_ms: float, ms_per_megapixel: float, max_batch: int) -> None:
        self.cost, self.max_batch, self.begun = (base_ms, ms_per_megapixel), max_batch, 0
        self.buckets: dict[tuple[int, ...], deque[tuple[np.ndarray, asyncio.Future[np.ndarray]]]] = {}

    async def run(self, image: np.ndarray) -> np.ndarray:
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self.buckets.setdefault(image.shape, deque()).append((image, future))
        self.fill()
        return await future

    def fill(self) -> None:
        while self.buckets and self.begun < 2:
            bucket = max(self.buckets.values(), key=len)  # the fullest first
            if self.begun and len(bucket) < self.max_batch:
                return
            batch = [bucket.popleft() for _ in range(min(len(bucket), self.max_batch))]
            if not bucket:
                del self.buckets[batch[0][0].shape]
            self.begun += 1
            run = asyncio.get_running_loop().run_in_executor(
                DEVICE, run_device, [image for image, _ in batch], *self.cost
            )
            run.add_done_callback(functools.partial(self.finish, batch))

    def finish(
        self, batch: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]], run: asyncio.Future[np.ndarray]
    ) -> None:
        self.begun -= 1
        self.fill()
        for (_, future), output in zip(batch, run.result(), strict=True):
            if not future.cancelled():
                future.set_result(output)


async def restore(request: Request) -> Response:
    loop, data = asyncio.get_running_loop(), await request.body()
    output = await request.app.state.batcher.run(await loop.run_in_executor(CODECS, decode, data))
    suffix = request.query_params.get("format", "png")
    return Response(await loop.run_in_executor(CODECS, encode, output, f".{suffix}"), media_type=f"image/{suffix}")


async def ready(_: Request) -> Response:
    return Response("ready")


if __name__ == "__main__":
    given = options.parse_args()
    cv2.setNumThreads(1)
    app = Starlette(routes=[Route("/restore", restore, methods=["POST"]), Route("/readyz", ready)])
    app.state.batcher = Batcher(given.base_ms, given.ms_per_megapixel, given.max_batch)
    uvicorn.run(app, port=given.port, log_level="warning", access_log=False)
