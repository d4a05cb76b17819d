"""Invalid uploads: non-images, truncated, oversized or with wrong options, each with its expected error."""

import struct
import zlib
from typing import NamedTuple

from clients import Client, fault_of_connection, slug_of
from locust import constant_throughput, task
from scenario import Scenario, Stage
from thresholds import Thresholds

PNG, FORM = "image/png", "multipart/form-data; boundary=x"


class BadInputs(Scenario):
    stages = (Stage(60, 16),)
    thresholds = Thresholds(max_p95_ms=500)


class Bad(NamedTuple):
    """Body, how it is sent, and the expected problem type; `photo` in a body stands for a valid image."""

    slug: str
    body: bytes
    media_type: str = PNG
    query: str = ""


def _bomb(side: int) -> bytes:
    """Return the start of a PNG that declares `side` x `side` pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(64)


BAD = (
    Bad("empty-upload", b""),
    Bad("unsupported-image", b"This is a text, and long enough to be seen as one."),
    Bad("undecodable-image", b"photo"),
    Bad("image-too-large", _bomb(100_000)),
    Bad("invalid-request", b"photo", query="quality=101"),
    Bad("invalid-request", b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\na\r\n--x--\r\n', FORM),
)


class Offender(Client):
    wait_time = constant_throughput(2)

    @task(3)
    def offend(self) -> None:
        """Send the next invalid request; the correct response is the matching problem."""
        self._sent = getattr(self, "_sent", -1) + 1
        bad = BAD[self._sent % len(BAD)]
        photo = self.images.next()[1].data
        # A truncated photo fails while it is decoded; the photo for wrong options is complete.
        body = bad.body.replace(b"photo", photo if bad.query else photo[: len(photo) // 2])
        with self.post(body, bad.media_type, bad.slug, bad.query) as response:
            if slug_of(response) == bad.slug:
                response.success()
            else:
                response.failure(fault_of_connection(response) or f"{response.status_code} {slug_of(response)}")
