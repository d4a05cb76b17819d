"""Report document: the JSON report on one restoration."""

import math
from typing import Self

from pydantic import BaseModel, Field

from server.restore.options import Mode, Restored


class ChangeDocument(BaseModel):
    """The size of the change from the upload to the answer, in fractions of the full range of the samples."""

    mean_abs: float
    max_abs: float
    psnr_db: float | None = Field(description="Between upload and answer; null if nothing changed.")


class TimingsDocument(BaseModel):
    """Milliseconds of each stage; of a tiled photo, `queue_ms` is the wait for its first run."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    encode_ms: float
    batch_size: int = Field(description="Images and tiles in its batch; of several, the largest.")


class ReportDocument(BaseModel):
    """What the network changed in a photo, and how it was run."""

    width: int
    height: int
    model: str = Field(description="The name of the model that restored the photo.")
    mode: Mode = Field(description="`tiled` if the photo was restored in pieces, which changes the answer a little.")
    tiles: int = Field(description="Runs: one a tile and, if there are several, one of the whole frame for their tone.")
    change: ChangeDocument
    prompt_weights: list[list[float]] | None = Field(
        description="For each decoder level, from coarse to fine, the share of each learned prompt; prompts have no "
        "names. Null if the artifact does not report them."
    )
    degradations: dict[str, float] | None = Field(
        description="The probability of each degradation; several may be present. Null if the artifact names none."
    )
    timings: TimingsDocument
    dropped: list[str] = Field(
        default_factory=list,
        description="Parts of the upload that the answer lacks, such as gain-map or motion-video.",
    )

    @classmethod
    def of(cls, restored: Restored) -> Self:
        """Describe a restoration that has a report."""
        report, timings = restored.report, restored.timings
        if report is None:
            raise ValueError("no report was asked for")
        change, weights = report.change, report.prompt_weights
        return cls(
            width=restored.width,
            height=restored.height,
            model=restored.model,
            mode=restored.mode,
            tiles=restored.tiles,
            change=ChangeDocument(
                mean_abs=change.mean_abs,
                max_abs=change.max_abs,
                psnr_db=change.psnr_db if math.isfinite(change.psnr_db) else None,
            ),
            prompt_weights=None if weights is None else [list(level) for level in weights],
            degradations=None if restored.degradations is None else dict(restored.degradations),
            dropped=list(restored.dropped),
            timings=TimingsDocument(
                decode_ms=timings.decode_s * 1e3,
                queue_ms=timings.queue_s * 1e3,
                inference_ms=timings.inference_s * 1e3,
                encode_ms=timings.encode_s * 1e3,
                batch_size=timings.batch_size,
            ),
        )


class ReportWithImage(ReportDocument):
    """A report with the image in it."""

    media_type: str
    image: str = Field(description="Base64 of the encoded image.")
