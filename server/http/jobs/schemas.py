"""Job schemas: the JSON documents of `/v1/jobs`."""

import math
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from server.http.ops.schemas import Problem
from server.jobs.record import Answer, State
from server.jobs.run import BatchStatus, Status
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
        return cls(
            id=record.id,
            state=record.state,
            tiles=JobTiles(done=now.done, total=now.total or None),
            time_left_s=_tenths(now.left_s),
            created_at=_moment(record.created_at),
            expires_at=None if record.expires_at is None else _moment(record.expires_at),
            filename=record.order.filename,
            options=record.order.restore_options.named(),
            problem=None if record.problem is None else Problem.model_validate(record.problem),
            result=None if record.answer is None else JobResult.of(record.answer),
            links=_links(record.id, record.state, root),
        )


class BatchPhoto(BaseModel):
    """One photo of a batch, which is a job of its own."""

    id: str
    filename: str | None
    state: State
    problem: Problem | None = Field(description="Why it failed.")
    result: JobResult | None
    links: dict[str, str]

    @classmethod
    def of(cls, now: Status, root: str) -> Self:
        """Describe a photo, with links below the public root path."""
        job = Job.of(now, root)
        return cls(
            id=job.id, filename=job.filename, state=job.state, problem=job.problem, result=job.result, links=job.links
        )


class BatchJob(BaseModel):
    """The current state of several photos that were submitted together."""

    id: str = Field(description="128 random bits: a client that knows it may read and delete the batch.")
    state: State = Field(description="`done` once no photo is left to restore and at least one was restored.")
    tiles: JobTiles
    time_left_s: float | None = Field(description="Predicted; null while unknown.")
    created_at: datetime
    expires_at: datetime | None = Field(description="When the results will be removed; set when the last photo ends.")
    filename: str | None = Field(description="Name of the archive that was sent.")
    options: dict[str, Any]
    problem: Problem | None = Field(description="Of the first photo, if every photo has failed.")
    counts: dict[str, int] = Field(description="Photos in each state.")
    photos: list[BatchPhoto] | None = Field(description="In the order of the upload; null in events.")
    links: dict[str, str]

    @classmethod
    def of(cls, now: BatchStatus, root: str, *, with_photos: bool = True) -> Self:
        """Describe a batch, with links below the public root path."""
        batch = now.batch
        expiries = [photo.record.expires_at for photo in now.photos if photo.record.expires_at is not None]
        problem = now.photos[0].record.problem if now.state is State.FAILED else None
        return cls(
            id=batch.id,
            state=now.state,
            tiles=JobTiles(done=now.done, total=now.total or None),
            time_left_s=_tenths(now.left_s),
            created_at=_moment(batch.created_at),
            expires_at=_moment(min(expiries)) if expiries else None,
            filename=batch.filename,
            options=batch.restore_options.named(),
            problem=None if problem is None else Problem.model_validate(problem),
            counts={state.value: count for state, count in now.counts.items()},
            photos=[BatchPhoto.of(photo, root) for photo in now.photos] if with_photos else None,
            links=_links(batch.id, now.state, root),
        )


def document_of(now: Status | BatchStatus, root: str, *, with_photos: bool = True) -> Job | BatchJob:
    """Describe a job or batch."""
    return Job.of(now, root) if isinstance(now, Status) else BatchJob.of(now, root, with_photos=with_photos)


def webhook_document(now: Status | BatchStatus, root: str) -> dict[str, object]:
    """Describe a job or batch as a webhook tells it."""
    return document_of(now, root, with_photos=False).model_dump(mode="json")


def _links(id_: str, state: State, root: str) -> dict[str, str]:
    own = f"{root}{PATH}/{id_}"
    links = {"self": own, "events": f"{own}/events"}
    return links | {"result": f"{own}/result"} if state is State.DONE else links


def _tenths(seconds: float | None) -> float | None:
    """Round a predicted time up to tenths of a second."""
    return None if seconds is None else math.ceil(seconds * 10) / 10


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
