"""LitServe with the simulated device: one worker that decodes, runs and encodes."""

import litserve
import numpy as np
from fastapi import Request, Response
from work import MAX_BATCH, PORT, decode, png, run

TIMEOUT_S = 0.001


class Restore(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """Nothing to load."""

    async def decode_request(self, request: Request) -> np.ndarray:
        return decode(await request.body())

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return inputs

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return run(inputs)

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(png(output), media_type="image/png")


if __name__ == "__main__":
    api = Restore(max_batch_size=MAX_BATCH, batch_timeout=TIMEOUT_S, api_path="/restore")
    litserve.LitServer(api, accelerator="cpu").run(port=PORT, generate_client_file=False)
