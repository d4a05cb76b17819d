"""Mosec with the simulated device: decode in two processes, run in one, encode in two."""

import sys

import numpy as np
from mosec import Server, Worker
from work import MAX_BATCH, PORT, decode, png, run

WAIT_MS = 1
CODECS = 2


class Decode(Worker):
    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> np.ndarray:
        return decode(data)


class Run(Worker):
    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        return run(data)


class Encode(Worker):
    resp_mime_type = "image/png"

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: np.ndarray) -> bytes:
        return png(data)


if __name__ == "__main__":
    sys.argv += ["--port", str(PORT)]
    server = Server()
    server.append_worker(Decode, num=CODECS, route="/restore")
    server.append_worker(Run, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS, route="/restore")
    server.append_worker(Encode, num=CODECS, route="/restore")
    server.run()
