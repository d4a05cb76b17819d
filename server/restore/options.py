"""Restoration: what may be asked of one, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from server import formats
from server.formats.output import ColourPolicy, MetadataPolicy, OutputFormat, OutputOptions, PngEffort
from server.imaging.report import Degradations, Report
from server.restore.frame import Frames

DEFAULT_QUALITY = 90

_LOSSY, _LOSSLESS = (
    formats.listing([output.file_format.name for output in OutputFormat if output.encoder.is_lossy is is_lossy], "and")
    for is_lossy in (True, False)
)

Progress = Callable[[int, int], None]
"""Is told the runs that are done, and those in all; on the event loop."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What a request may ask of a restoration; `tile` and `overlap` in pixels, None for the defaults."""

    output: OutputFormat | None = OutputFormat.PNG
    """None: the input's own format."""
    quality: int = DEFAULT_QUALITY
    """1..100, of the lossy formats."""
    effort: PngEffort = PngEffort.FAST
    metadata: MetadataPolicy = MetadataPolicy.KEEP
    colours: ColourPolicy = ColourPolicy.KEEP
    strength: float = 1.0
    """0..1: the share of the restored photo in the answer; the rest is the input."""
    tile: int | None = None
    overlap: int | None = None
    report: bool = False

    @property
    def writing(self) -> OutputOptions:
        """The part that the codec's writer reads."""
        return OutputOptions(self.metadata, self.effort)

    def named(self) -> dict[str, object]:
        """All of them as JSON can hold them, by the names of the query: what an entity tag or a job is keyed by."""
        return {
            "format": "same" if self.output is None else self.output.value,
            "quality": self.quality,
            "effort": self.effort.value,
            "metadata": self.metadata.value,
            "color": self.colours.value,
            "strength": self.strength,
            "tile": self.tile,
            "overlap": self.overlap,
            "report": self.report,
        }


class RestoreFields(BaseModel):
    """Those that every front spells the same way, as a client gives them."""

    quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description=f"Of {_LOSSY}; {_LOSSLESS} are lossless.")
    effort: PngEffort = Field(default=PngEffort.FAST, description="Of PNG: `small` takes forty times as long.")
    metadata: MetadataPolicy = Field(default=MetadataPolicy.KEEP, description="What becomes of EXIF and XMP.")
    color: ColourPolicy = Field(
        default=ColourPolicy.KEEP,
        description="`srgb` converts colours that a profile describes, and drops it.",
    )
    strength: float = Field(
        default=1.0, ge=0, le=1, description="The share of the restored photo in the answer; the rest is the upload."
    )
    tile: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None, description="Longest side of a tile, in pixels; an image that fits one runs whole."
    )
    overlap: Annotated[int, Field(ge=0)] | SkipJsonSchema[None] = Field(
        default=None, description="Pixels that neighbouring tiles share at least."
    )

    def with_output(self, output: OutputFormat | None, *, report: bool = False) -> RestoreOptions:
        """The same as a restoration takes them."""
        return RestoreOptions(
            output=output,
            quality=self.quality,
            effort=self.effort,
            metadata=self.metadata,
            colours=self.color,
            strength=self.strength,
            tile=self.tile,
            overlap=self.overlap,
            report=report,
        )


class Mode(StrEnum):
    """Whether one run saw the whole photo, or several saw tiles of it."""

    WHOLE = "whole"
    TILED = "tiled"


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of one restoration, and the jobs that shared its run.

    Of a tiled photo `queue_s` is the wait before its first run, `inference_s` all time from there to the last tile,
    and `batch_size` that of its largest run.
    """

    decode_s: float
    queue_s: float
    inference_s: float
    encode_s: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Restored:
    """An encoded image of exactly the input's size, how it was made, and how long each stage took."""

    data: bytes
    output: OutputFormat
    width: int
    height: int
    timings: Timings
    mode: Mode = Mode.WHOLE
    tiles: int = 1
    """Its runs: one a tile, and the guide's if there are several."""
    report: Report | None = None
    """None unless it was asked for."""
    padded_shape: tuple[int, int] | None = None
    """Height and width that its last run had for each image."""
    mixed_sizes: bool = False
    """Whether that run held images of several sizes."""
    degradations: Degradations | None = None
    """None where the model names none."""
    dropped: tuple[str, ...] = ()
    """What the upload held beside the picture and the answer does not: gain-map, motion-video, depth-map, bit-depth."""


@dataclass(frozen=True, slots=True)
class RestoredFrames:
    """The images of a tensor, each (3, H, W) of the input's size and type, and how they were made."""

    frames: Sequence[Frames]
    timings: Timings
    mode: Mode
    tiles: int
    """Runs of each image, the guide's included."""
