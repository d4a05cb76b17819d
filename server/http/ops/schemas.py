"""Schemas: the JSON documents of the API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from server import formats
from server.formats.output import OutputFormat
from server.restore.pipeline import Status


class Problem(BaseModel):
    """RFC 9457 problem details; further members say what is allowed, such as `max_image_pixels`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="Which problem it is, stable over releases.", examples=["urn:promptir:problem:queue-full"]
    )
    title: str = Field(description="The problem in a few words, the same at each occurrence.", examples=["Queue full"])
    status: int = Field(description="The HTTP status.", examples=[429])
    detail: str = Field(description="This occurrence in a sentence.")
    instance: str = Field(description="This occurrence as a URI, from the request id.")


class Health(BaseModel):
    """Liveness: the process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether restorations are taken, and the jobs of this server can be used."""

    status: Status | Literal["jobs-unavailable"]
    jobs: str | None = Field(default=None, description="What is wrong with the disk of the jobs; null: nothing.")


class Model(BaseModel):
    """The network that runs, and where."""

    artifact: str
    precision: str
    backend: str
    device: str


class Limits(BaseModel):
    """What an upload may be."""

    max_upload_bytes: int
    max_image_pixels: int
    max_image_side: int
    input_formats: list[str] = list(formats.NAMES)
    output_formats: list[str] = [output.value for output in OutputFormat]


class SchedulerBucket(BaseModel):
    """Images of one padded size that wait; only equal sizes share a run."""

    model_config = ConfigDict(from_attributes=True)

    height: int
    width: int
    tiles: int
    pixels: int
    oldest_wait_ms: float
    interactive: int = Field(description="Tiles of this priority; `interactive` and `batch` add up to `tiles`.")
    batch: int


class SchedulerPaddedShape(BaseModel):
    """A shape that mixed-size batches are padded to."""

    model_config = ConfigDict(from_attributes=True)

    height: int
    width: int
    chosen_by: Literal["setting", "traffic"] = Field(description="`PROMPTIR_PADDED_SHAPES`, or the sizes that came.")
    tiles: int = Field(description="Queued tiles for which this is the smallest padded shape that holds them.")
    padding: float = Field(description="Part of its pixels that such an image leaves over, on average; 0 without one.")


class SchedulerCost(BaseModel):
    """What a run of n images of one padded size is predicted to take: `fixed_ms + n * per_image_ms`."""

    model_config = ConfigDict(from_attributes=True)

    height: int
    width: int
    fixed_ms: float
    per_image_ms: float
    runs: int = Field(description="Runs that it was fitted to.")


class SchedulerDevice(BaseModel):
    """A device that takes work."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    max_batch: int
    max_run_pixels: int
    running: list[tuple[int, int, int]] = Field(
        description="Height, width and number of images of its runs, the present one first."
    )
    remaining_ms: float = Field(description="Predicted, of what runs.")
    cost_error: float = Field(description="Mean of |predicted - measured| / measured over the last runs.")
    costs: list[SchedulerCost]


class Scheduler(BaseModel):
    """What waits and runs now, and what runs are predicted to cost."""

    model_config = ConfigDict(from_attributes=True)

    backlog_ms: float = Field(description="Predicted time until all that was admitted is done.")
    max_backlog_ms: float = Field(description="Beyond it requests are refused with 429.")
    buckets: list[SchedulerBucket]
    padded_shapes: list[SchedulerPaddedShape] = Field(
        description="From small to large. Empty for models without masks, and until enough sizes came."
    )
    devices: list[SchedulerDevice]


class ServiceDescription(BaseModel):
    """What the service is; `model` is null until the backend has started."""

    name: str = "PromptIR Serve"
    description: str = "Blind image restoration: noise, rain and haze, found and removed by one network."
    version: str
    status: Status
    model: Model | None
    jobs: bool = Field(description="Whether long work is taken; without, `/v1/jobs` answers 501.")
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
