"""Limits document: everything that bounds a request, from the settings and the code that holds to it."""

from typing import Self

from pydantic import BaseModel, Field

from server import formats
from server.formats.output import OutputFormat
from server.imaging import tiling
from server.settings import Settings


class TileLimits(BaseModel):
    """What `tile` and `overlap` may be; they are multiples of the steps."""

    default: int
    smallest: int
    largest: int
    step: int | None = Field(description="Null until the backend has started.")
    default_overlap: int
    largest_overlap: str = "a quarter of the tile"


class ServiceLimits(BaseModel):
    """Every bound on a request; those named as a setting are one, `PROMPTIR_` and the name."""

    max_upload_bytes: int = Field(description="Of one upload; beyond it 413.")
    max_uploads_bytes: int = Field(description="Of all uploads that are read or decoded at a time; beyond it 429.")
    upload_stall_s: float = Field(description="Seconds in which each 64 KiB of an upload must come; beyond it 408.")
    max_image_pixels: int = Field(description="Width times height; beyond it 413.")
    max_image_side: int = Field(description="Pixels; beyond it 413.")
    max_metadata_bytes: int = Field(description="Of the colour profile, EXIF and XMP, each, and inflated.")
    max_whole_pixels: int = Field(description="An image of more is restored in tiles.")
    tone_guide: bool = Field(description="Whether a run of the whole frame decides the tone of tiles that disagree.")
    max_run_pixels: int = Field(description="Of all images of a run of several; on the largest device.")
    max_frames: int = 1
    max_batch: int
    max_queued_pixels: int
    max_backlog_ms: float = Field(description="Predicted time until all that was admitted is done; beyond it 429.")
    input_formats: list[str] = list(formats.NAMES)
    output_formats: list[str] = [*(output.value for output in OutputFormat), "same"]
    output_sides: dict[str, int] = Field(
        default={
            output.value: output.encoder.longest_side
            for output in OutputFormat
            if output.encoder.longest_side is not None
        },
        description="Longest side that a format can store, in pixels; formats without a limit are left out.",
    )
    quality: tuple[int, int] = (1, 100)
    strength: tuple[float, float] = (0.0, 1.0)
    tile: TileLimits

    @classmethod
    def of(cls, settings: Settings, multiple: int | None) -> Self:
        """The limits by these settings, for a network whose sides are multiples of `multiple`."""
        whole, batching = settings.whole_pixels, settings.batching
        bounds = {name: value for name, value in settings.limits.model_dump().items() if value is not None}
        bounds["max_whole_pixels"] = whole
        bounds["max_run_pixels"] = max(map(settings.run_pixels, settings.backend.device_names))
        smallest, largest, step = tiling.tile_sides(multiple or 1, whole)
        return cls(
            **bounds,
            max_batch=batching.max_batch,
            max_queued_pixels=batching.max_queued_pixels,
            max_backlog_ms=batching.max_backlog_ms,
            tile=TileLimits(
                default=max(smallest, min(tiling.DEFAULT_TILE, largest or tiling.DEFAULT_TILE)),
                smallest=smallest,
                largest=largest or smallest,
                step=None if multiple is None else step,
                default_overlap=tiling.DEFAULT_OVERLAP,
            ),
        )
