"""Job schemas: the JSON documents of `/v1/jobs`."""

import math
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from server.http.ops.schemas import Problem
from server.jobs.record import Answer, State
from server.jobs.run import Status
from server.restore.options import Mode

PATH = "/v1/jobs"


class JobTiles(BaseModel):
    """Progress in runs: one a tile, and one more that sets their tone. `total` is null until the image is read."""

    done: int
    total: int | None


class JobResult(BaseModel):
    """The result of a finished job."""

    media_type: str
    width: int
    height: int
    mode: Mode = Field(description="`whole`: one run saw the whole photo; `tiled`: several saw tiles of it.")
    model: str | None = Field(description="The name of the model that restored it; null in jobs of older servers.")
    report: dict[str, Any] | None = Field(description="What the network did, if `report` asked for it.")
    dropped: list[str] = Field(description="Parts of the upload that the result lacks, such as `gain-map`.")

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Describe an answer."""
        return cls(
            media_type=answer.output.media_type,
            width=answer.width,
            height=answer.height,
            mode=answer.mode,
            model=answer.model or None,
            report=answer.report,
            dropped=list(answer.dropped),
        )


class Job(BaseModel):
    """The current state of a job."""

    id: str = Field(description="128 random bits: a client that knows it may read and delete the job.")
    state: State
    tiles: JobTiles
    time_left_s: float | None = Field(
        description="Predicted from its finished tiles, or from other jobs; null while unknown."
    )
    created_at: datetime
    expires_at: datetime | None = Field(description="When the result will be removed; set when the job ends.")
    filename: str | None
    options: dict[str, Any]
    problem: Problem | None = Field(description="Why it failed.")
    result: JobResult | None
    links: dict[str, str]

    @classmethod
    def of(cls, now: Status, root: str) -> Self:
        """Describe a job, with links below the public root path."""
        record = now.record
        own = f"{root}{PATH}/{record.id}"
        links = {"self": own, "events": f"{own}/events"}
        if record.state is State.DONE:
            links["result"] = f"{own}/result"
        return cls(
            id=record.id,
            state=record.state,
            tiles=JobTiles(done=now.done, total=now.total or None),
            time_left_s=None if now.left_s is None else math.ceil(now.left_s * 10) / 10,
            created_at=_moment(record.created_at),
            expires_at=None if record.expires_at is None else _moment(record.expires_at),
            filename=record.order.filename,
            options=record.order.restore_options.named(),
            problem=None if record.problem is None else Problem.model_validate(record.problem),
            result=None if record.answer is None else JobResult.of(record.answer),
            links=links,
        )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
