"""Result of a restoration."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from promptir_client.errors import PromptIRError
from promptir_client.notebook import picture_of
from promptir_client.steps import Reply

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

_DURATION = re.compile(r"(\w+);dur=([\d.]+)")
_BATCH = re.compile(r'batch;desc="(\d+)"')
# The header of a PNG: its signature, and the colour type that follows size and depth.
_PNG, _COLOUR_TYPE_AT, _GREY_ALPHA = b"\x89PNG\r\n\x1a\n", 25, 4
_BOUNDARY = re.compile(r'boundary="?([^";]+)')


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of each stage in the server; None if the response does not contain it."""

    decode_ms: float | None = None
    queue_ms: float | None = None
    inference_ms: float | None = None
    encode_ms: float | None = None
    total_ms: float | None = None
    batch_size: int | None = None

    @classmethod
    def of(cls, header: str) -> "Timings":
        """Read a Server-Timing header."""
        stages = {f"{name}_ms": float(value) for name, value in _DURATION.findall(header)}
        batch = _BATCH.search(header)
        known = {name: stages[name] for name in stages if name in cls.__dataclass_fields__}
        return cls(**known, batch_size=None if batch is None else int(batch[1]))


@dataclass(frozen=True, slots=True)
class Change:
    """Difference between upload and result, in fractions of the full range; `psnr_db` is None if they are equal."""

    mean_abs: float
    max_abs: float
    psnr_db: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a restoration, requested by `report=True`; `document` is the whole JSON document."""

    width: int
    height: int
    tiles: int
    change: Change
    prompt_weights: list[list[float]] | None = field(repr=False)
    degradations: Mapping[str, float] | None
    """Probability of each degradation; None if the model does not detect any."""
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Report":
        """Read the report's JSON document."""
        change = document["change"]
        return cls(
            document["width"],
            document["height"],
            document["tiles"],
            Change(change["mean_abs"], change["max_abs"], change["psnr_db"]),
            document["prompt_weights"],
            document.get("degradations"),
            document,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Restored:
    """Restored photo as a file of `media_type`, with details of the restoration; notebooks show it as a picture."""

    data: bytes
    media_type: str
    mode: str
    """`whole`: restored in one run; `tiled`: restored in tiles, which changes the result slightly."""
    timings: Timings
    report: Report | None = None
    request_id: str | None = None
    dropped: tuple[str, ...] = ()
    """Parts of the upload that are missing in the result, such as `gain-map`."""
    model: str | None = None
    """Name of the model that restored it; None from servers that do not say."""

    def __repr__(self) -> str:
        """Describe the result without its bytes."""
        known = {"mode": self.mode, "timings": self.timings, "report": self.report, "request_id": self.request_id}
        known |= {"dropped": self.dropped or None, "model": self.model}
        members = "".join(f", {name}={value!r}" for name, value in known.items() if value is not None)
        return f"Restored({self.media_type}, {len(self.data)} bytes{members})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the picture for Jupyter, if notebooks know its format or Pillow can convert it."""
        return {"text/plain": repr(self)} | picture_of(self.data, self.media_type)

    def save(self, path: str | Path) -> None:
        """Write the file unchanged; the caller chooses the suffix."""
        Path(path).write_bytes(self.data)

    def pil(self) -> "PIL.Image.Image":
        """Decode with Pillow, which must be installed; 16-bit colour is reduced to 8 bits."""
        import PIL.Image

        image = PIL.Image.open(io.BytesIO(self.data))
        image.load()
        return image

    def numpy(self) -> "npt.NDArray[np.uint8 | np.uint16]":
        """Decode to (height, width[, channels]) samples of the file's depth; needs OpenCV and numpy.

        The channels are RGB or RGBA, and grey with alpha for a PNG of this kind.
        """
        import cv2
        import numpy as np

        samples = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if samples is None:  # a format that this build of OpenCV does not support
            return np.asarray(self.pil())
        if samples.ndim == 3:
            swap = cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
            samples = cv2.cvtColor(samples, swap)
            if self.data.startswith(_PNG) and self.data[_COLOUR_TYPE_AT] == _GREY_ALPHA:  # OpenCV repeats the grey
                samples = samples[..., [0, 3]]
        array: npt.NDArray[np.uint8 | np.uint16] = samples
        return array


def restored_of(reply: Reply, report: Mapping[str, Any] | None = None) -> Restored:
    """Parse a successful response of `/restore` or of a job's result; `report` comes from the job's document."""
    headers, content = reply.headers, reply.content
    media_type = headers.get("content-type", "")
    if media_type.startswith("multipart/mixed"):
        report, media_type, content = _parts(media_type, content)
    return Restored(
        content,
        media_type,
        headers.get("x-restore-mode", "whole"),
        Timings.of(headers.get("server-timing", "")),
        None if report is None else Report.of(report),
        headers.get("x-request-id"),
        tuple(headers["x-restore-dropped"].split(", ")) if "x-restore-dropped" in headers else (),
        unquote(headers["x-restore-model"]) if "x-restore-model" in headers else None,
    )


def _parts(media_type: str, content: bytes) -> tuple[Mapping[str, Any], str, bytes]:
    # RFC 2046, section 5.1: the boundary does not occur in either part.
    boundary = _BOUNDARY.search(media_type)
    parts = content.split(b"--" + boundary[1].encode()) if boundary is not None else []
    if len(parts) != 4:
        raise PromptIRError("the response does not consist of a report and an image")
    (_, report), (head, image) = (part.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for part in parts[1:3])
    kind = next(line for line in head.decode("latin-1").split("\r\n") if line.lower().startswith("content-type:"))
    return json.loads(report), kind.partition(":")[2].strip(), image.removesuffix(b"\r\n")
