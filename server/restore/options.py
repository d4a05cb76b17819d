"""Options and results of a restoration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from server import formats
from server.formats.output import ColourPolicy, MetadataPolicy, OutputFormat, OutputOptions, PngEffort
from server.imaging.report import Degradations, Report
from server.imaging.tiling import Grid
from server.restore.frame import Frames

DEFAULT_QUALITY = 90

_LOSSY, _LOSSLESS = (
    formats.listing([output.file_format.name for output in OutputFormat if output.encoder.is_lossy is is_lossy], "and")
    for is_lossy in (True, False)
)

Progress = Callable[[int, int], None]
"""Called with the number of finished runs and of all runs; on the event loop."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """The options of a restoration; `tile` and `overlap` in pixels, None for the defaults."""

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
    model: str | None = None
    """The name of the model; None for the default."""

    @property
    def writing(self) -> OutputOptions:
        """The options of the writer."""
        return OutputOptions(self.metadata, self.effort)

    def named(self) -> dict[str, object]:
        """Return all options as JSON values, by their names in the query; entity tags and stored jobs use them."""
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
            "model": self.model,
        }


class RestoreFields(BaseModel):
    """The options that every front spells the same way, as a client sends them."""

    quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description=f"Of {_LOSSY}; {_LOSSLESS} are lossless.")
    effort: PngEffort = Field(default=PngEffort.FAST, description="Of PNG: `small` takes 20 to 40 times as long.")
    metadata: MetadataPolicy = Field(default=MetadataPolicy.KEEP, description="Whether EXIF and XMP are kept.")
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

    def with_output(
        self, output: OutputFormat | None, *, report: bool = False, model: str | None = None
    ) -> RestoreOptions:
        """Convert to the options of a restoration."""
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
            model=model,
        )


class Mode(StrEnum):
    """Whether the photo was restored in one run, or in tiles."""

    WHOLE = "whole"
    TILED = "tiled"

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """Return how the image of a grid is restored."""
        return cls.WHOLE if grid.is_whole else cls.TILED


class Timings(NamedTuple):
    """Seconds of each stage of a restoration, and the size of its batch.

    Of a tiled photo, `queue_s` is the wait for its first run, `inference_s` the time from there to the last tile, and
    `batch_size` the size of the largest batch.
    """

    decode_s: float
    queue_s: float
    inference_s: float
    encode_s: float
    batch_size: int


class Restored(NamedTuple):
    """An encoded image of exactly the input's size, and how it was restored."""

    data: bytes
    output: OutputFormat
    width: int
    height: int
    timings: Timings
    mode: Mode = Mode.WHOLE
    tiles: int = 1
    """Number of runs: one a tile, and one of the guide if there are several tiles."""
    report: Report | None = None
    """None unless it was asked for."""
    padded_shape: tuple[int, int] | None = None
    """(height, width) of each image in its last run."""
    mixed_sizes: bool = False
    """Whether its last run was a mixed-size batch."""
    degradations: Degradations | None = None
    """None if the model names none."""
    dropped: tuple[str, ...] = ()
    """Parts of the upload that the answer lacks: gain-map, motion-video, depth-map, bit-depth."""
    model: str = ""
    """The name of the model that restored it."""


@dataclass(frozen=True, slots=True)
class RestoredFrames:
    """The restored images of a tensor, each (3, H, W) in the size and type of the input."""

    frames: Sequence[Frames]
    timings: Timings
    mode: Mode
    tiles: int
    """Runs of each image, the guide included."""
