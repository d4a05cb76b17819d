"""Schemas: the JSON documents about the service: what it is, its limits, its health and its scheduler."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from server import formats
from server.formats.output import OutputFormat
from server.imaging import tiling
from server.restore.pipeline import Status
from server.settings import Settings


class Problem(BaseModel):
    """RFC 9457 problem details; further members state limits, such as `max_image_pixels`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="The kind of problem, stable over releases.", examples=["urn:promptir:problem:queue-full"]
    )
    title: str = Field(description="The kind of problem in a few words.", examples=["Queue full"])
    status: int = Field(description="The HTTP status.", examples=[429])
    detail: str = Field(description="This occurrence in a sentence.")
    instance: str = Field(description="This occurrence as a URI, made from the request id.")


class Health(BaseModel):
    """Liveness: the process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Readiness: whether the server takes restorations, and its jobs can be used."""

    status: Status | Literal["jobs-unavailable"]
    jobs: str | None = Field(default=None, description="What is wrong with the disk of the jobs; null if nothing is.")


class Model(BaseModel):
    """A model that is served: the name that chooses it, its artifact, and its hardware."""

    name: str
    artifact: str
    precision: str
    backend: str
    device: str


class Limits(BaseModel):
    """The main limits on an upload; `/v1/limits` has all."""

    max_upload_bytes: int
    max_image_pixels: int
    max_image_side: int
    input_formats: list[str] = list(formats.NAMES)
    output_formats: list[str] = [output.value for output in OutputFormat]


class SchedulerBucket(BaseModel):
    """Queued tiles of one model and padded size."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    height: int
    width: int
    tiles: int
    pixels: int
    oldest_wait_ms: float
    interactive: int = Field(description="Tiles of this priority; `interactive` and `batch` add up to `tiles`.")
    batch: int


class SchedulerPaddedShape(BaseModel):
    """A shape that mixed-size batches of a model are padded to."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    height: int
    width: int
    chosen_by: Literal["setting", "traffic"] = Field(description="`PROMPTIR_PADDED_SHAPES`, or the sizes that came.")
    tiles: int = Field(description="Queued tiles for which this is the smallest padded shape that holds them.")
    padding: float = Field(description="Part of its pixels that such an image leaves over, on average; 0 without one.")


class SchedulerCost(BaseModel):
    """The predicted duration of a run of n images of one padded size: `fixed_ms + n * per_image_ms`."""

    model_config = ConfigDict(from_attributes=True)

    height: int
    width: int
    fixed_ms: float
    per_image_ms: float
    runs: int = Field(description="Runs that the prediction was fitted to.")


class SchedulerModel(BaseModel):
    """A model on a device: its limits per batch, and the predicted costs of its runs."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    max_batch: int
    max_run_pixels: int
    cost_error: float = Field(description="Mean of |predicted - measured| / measured over recent runs.")
    costs: list[SchedulerCost]


class SchedulerRun(BaseModel):
    """A batch that a device runs, or has begun behind the current one."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    height: int
    width: int
    count: int


class SchedulerDevice(BaseModel):
    """A device that is running batches."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    running: list[SchedulerRun] = Field(description="Its runs, the current one first.")
    remaining_ms: float = Field(description="Predicted, of the current runs.")
    models: list[SchedulerModel]


class Scheduler(BaseModel):
    """The state of the scheduler: queue, devices and predicted costs of runs."""

    model_config = ConfigDict(from_attributes=True)

    backlog_ms: float = Field(description="Predicted time until everything admitted is done.")
    max_backlog_ms: float = Field(description="Above it, requests are refused with 429.")
    buckets: list[SchedulerBucket]
    padded_shapes: list[SchedulerPaddedShape] = Field(
        description="From small to large. Empty for models without masks, and until enough sizes came."
    )
    devices: list[SchedulerDevice]


class ServiceDescription(BaseModel):
    """Description of the service; `model` is null until the backend has started."""

    name: str = "PromptIR Serve"
    description: str = "Blind image restoration: noise, rain and haze, found and removed by one network."
    version: str
    status: Status
    model: Model | None = Field(description="The default model.")
    models: list[Model] = Field(description="All models, the default first; `model` of a request names one.")
    jobs: bool = Field(description="Whether the server keeps jobs; otherwise `/v1/jobs` answers 501.")
    limits: Limits
    links: dict[str, str] = {
        "restore": "/restore",
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "liveness": "/healthz",
        "readiness": "/readyz",
        "metrics": "/metrics",
        "scheduler": "/v1/scheduler",
        "jobs": "/v1/jobs",
        "limits": "/v1/limits",
    }


class TileLimits(BaseModel):
    """The values that `tile` and `overlap` may have, in multiples of `step`."""

    default: int
    smallest: int
    largest: int
    step: int | None = Field(description="What every model takes; null until the backend has started.")
    default_overlap: int
    largest_overlap: str = "a quarter of the tile"


class ServiceLimits(BaseModel):
    """All bounds on a request; those with the name of a setting (`PROMPTIR_...`) have its value."""

    max_upload_bytes: int = Field(description="Of one upload; above it, 413.")
    max_uploads_bytes: int = Field(description="Of all uploads that are read or decoded at a time; above it, 429.")
    upload_stall_s: float = Field(description="Seconds in which each 64 KiB of an upload must arrive; otherwise 408.")
    max_image_pixels: int = Field(description="Width times height; above it, 413.")
    max_image_side: int = Field(description="In pixels; above it, 413.")
    max_metadata_bytes: int = Field(description="Of colour profile, EXIF and XMP, each, inflated.")
    max_whole_pixels: int = Field(description="A larger image is restored in tiles.")
    tone_guide: bool = Field(description="Whether a run of the whole frame decides the tone of tiles that disagree.")
    max_run_pixels: int = Field(description="Of all images of a batch, on the largest device.")
    max_frames: int = 1
    max_batch: int
    max_queued_pixels: int
    max_backlog_ms: float = Field(description="Predicted time until everything admitted is done; above it, 429.")
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
        """Collect the limits from the settings, for a network whose sides are multiples of `multiple`."""
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


class HealthResponse(BaseModel):
    """The state of the service in a word and a sentence, in the shape of NVIDIA's microservices (NIM)."""

    object: Literal["health.response"] = "health.response"
    message: str
    status: str


class Artifact(BaseModel):
    """An artifact that is served."""

    name: str
    sha256: str = Field(description="Of the model file.")
    precision: str


class VersionResponse(BaseModel):
    """Versions of code and networks, and the devices; `artifact` is null until the backend has started."""

    package: str = "promptir-serve"
    version: str
    backend: str
    devices: list[str]
    device: str | None = Field(description="The backend's name for the first device that was ready.")
    artifact: Artifact | None = Field(description="Of the default model.")
    artifacts: dict[str, Artifact] = Field(description="Of each model, by name.")
