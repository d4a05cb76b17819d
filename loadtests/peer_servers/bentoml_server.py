"""BentoML with the simulated device: a service that takes photos, and one that decodes, runs and encodes batches."""

import os
import sys
from pathlib import Path

import bentoml
from fastapi import FastAPI, Request, Response
from work import MAX_BATCH, PORT, decode, png, run

TIMEOUT_S = 60
HERE = Path(__file__).resolve()
app = FastAPI()


@bentoml.service(workers=1, traffic={"timeout": TIMEOUT_S})
class Device:
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=TIMEOUT_S * 1000)
    def restore(self, photos: list[bytes]) -> list[bytes]:
        return [png(output) for output in run([decode(photo) for photo in photos])]


@bentoml.service(workers=1, traffic={"timeout": TIMEOUT_S})
@bentoml.asgi_app(app)
class Front:
    device = bentoml.depends(Device)

    @app.post("/restore")
    async def restore(self, request: Request) -> Response:
        (restored,) = await self.device.to_async.restore([await request.body()])
        return Response(restored, media_type="image/png")


if __name__ == "__main__":
    command = ["bentoml", "serve", f"{HERE.stem}:Front", "--host", "127.0.0.1", "--port", str(PORT)]
    os.chdir(HERE.parent)
    os.execv(Path(sys.executable).with_name("bentoml"), command)  # noqa: S606 - there is nothing for a shell to do
