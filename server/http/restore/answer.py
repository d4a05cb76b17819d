"""Answer: the HTTP response to a restoration."""

import base64
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from server.formats.output import OutputFormat
from server.http.middleware.request_context import SERVER_TIMING
from server.http.restore.report import ReportDocument, ReportWithImage
from server.imaging.report import Degradations
from server.restore.options import Restored, Timings

RESTORE_MODE = b"x-restore-mode"
RESTORE_MODEL = b"x-restore-model"
RESTORE_PADDED_SHAPE = b"x-restore-padded-shape"
DEGRADATIONS = b"x-degradations"
RESTORE_DROPPED = b"x-restore-dropped"
_LONGEST_STEM = 100
_VARY = (b"vary", b"Accept")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and content of a response, as an ASGI application that sends them."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.content})


def not_modified(tag: str) -> Answer:
    """Answer 304: the client has this image already."""
    return Answer(304, [(b"etag", tag.encode()), _VARY])


def restored_answer(restored: Restored, filename: str | None, tag: str, *, as_json: bool = False) -> Answer:
    """Answer with the image; with a report, as JSON or as multipart/mixed."""
    media_type, content = restored.output.media_type.encode(), restored.data
    suggested = disposition(filename, restored.output).encode("latin-1")
    if restored.report is not None and as_json:
        media_type, content = b"application/json", _json(restored)
    elif restored.report is not None:
        media_type, content = _multipart(restored, suggested)
    headers = [
        (b"content-length", b"%d" % len(content)),
        (b"content-type", media_type),
        (SERVER_TIMING, server_timing(restored.timings)),
        (RESTORE_MODE, restored.mode.encode()),
        (RESTORE_MODEL, model_header(restored.model)),
        (b"etag", tag.encode()),
        _VARY,
    ]
    if restored.padded_shape is not None:
        height, width = restored.padded_shape
        headers.append(
            (RESTORE_PADDED_SHAPE, b"%dx%d; %b" % (width, height, b"mixed-size" if restored.mixed_sizes else b"plain"))
        )
    if restored.degradations is not None:
        headers.append((DEGRADATIONS, degradations_header(restored.degradations)))
    if restored.dropped:
        headers.append((RESTORE_DROPPED, ", ".join(restored.dropped).encode()))
    if restored.report is None:
        headers.append((b"content-disposition", suggested))
    return Answer(200, headers, content)


def _json(restored: Restored) -> bytes:
    image = base64.b64encode(restored.data).decode()
    document = ReportDocument.of(restored).model_dump()
    return ReportWithImage(**document, media_type=restored.output.media_type, image=image).model_dump_json().encode()


def _multipart(restored: Restored, named: bytes) -> tuple[bytes, bytes]:
    # RFC 2046, section 5.1: no part may contain the boundary, so it is random.
    boundary = secrets.token_hex(16).encode()
    report = ReportDocument.of(restored).model_dump_json().encode()
    parts = (
        b"--%b\r\nContent-Type: application/json\r\n\r\n%b\r\n" % (boundary, report),
        b"--%b\r\nContent-Type: %b\r\nContent-Disposition: %b\r\n\r\n"
        % (boundary, restored.output.media_type.encode(), named),
        restored.data,
        b"\r\n--%b--\r\n" % boundary,
    )
    return b"multipart/mixed; boundary=" + boundary, b"".join(parts)


def server_timing(timings: Timings) -> bytes:
    """Format the stages as W3C Server-Timing, in milliseconds; the request context adds the total."""
    return b'decode;dur=%.2f, queue;dur=%.2f, inference;dur=%.2f, encode;dur=%.2f, batch;desc="%d"' % (
        timings.decode_s * 1e3,
        timings.queue_s * 1e3,
        timings.inference_s * 1e3,
        timings.encode_s * 1e3,
        timings.batch_size,
    )


@lru_cache
def model_header(model: str) -> bytes:
    """Percent-encode the name of a model, which may have characters that a header may not have."""
    return quote(model).encode()


def degradations_header(degradations: Degradations) -> bytes:
    """Format the probability of each degradation as an RFC 8941 dictionary, the most probable first."""
    ranked = sorted(degradations.items(), key=lambda item: -item[1])
    return ", ".join(f"{label}={probability:.3f}" for label, probability in ranked).encode()


def disposition(filename: str | None, output: OutputFormat) -> str:
    """Suggest a file name for the answer: that of the upload, made safe, with the suffix of the output."""
    # RFC 6266: a plain ASCII name for all clients, and the exact one for those that read filename*.
    if not filename:
        return f'inline; filename="restored{output.suffix}"'
    stem = PurePosixPath(filename.replace("\\", "/")).stem[:_LONGEST_STEM]
    stem = re.sub(r"[\x00-\x1f\x7f\"]", "", stem)
    name = f"{stem}-restored{output.suffix}" if stem else f"restored{output.suffix}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    simple = f'inline; filename="{plain}"'
    return simple if plain == name else f"{simple}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
