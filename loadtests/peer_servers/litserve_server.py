"""LitServe with the simulated device: its one worker process decodes, runs and encodes a batch after another."""

from collections.abc import Sequence
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response
from work import MAX_BATCH, PORT, decode, png, run

WAIT_S = 0.001
TIMEOUT_S = 60


class Restore(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """There is nothing to load."""

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        return decode(request)

    def batch(self, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return inputs

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return run(images)

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(png(output), media_type="image/png")


if __name__ == "__main__":
    api = Restore(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S, api_path="/restore")
    server = litserve.LitServer(api, accelerator="cpu", timeout=TIMEOUT_S)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
