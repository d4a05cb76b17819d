"""Job routes: the state of a job, its result and its events (WHATWG HTML, section 9.2)."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.responses import StreamingResponse

from server import errors
from server.http.error_responses import openapi_responses
from server.http.jobs.archive import archive_response, chunks
from server.http.jobs.schemas import PATH, BatchJob, Job, document_of
from server.http.middleware.privacy import CREDENTIALS
from server.http.restore.answer import disposition, model_header
from server.http.restore.openapi import DROPPED_HEADER, IMAGES, MODEL_HEADER
from server.http.scope import caller_of
from server.http.services import InjectedServices
from server.imaging.entity_tag import is_listed
from server.jobs.archive import MEDIA_TYPE as MEDIA_TYPE_ZIP
from server.jobs.long_work import LongWork
from server.jobs.run import BatchStatus, Status

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 2000
"""After which a client whose connection broke comes back."""

_FIRST = f"retry: {RETRY_MS}\n\n".encode()
_HEARTBEAT = b": still here\n\n"

_RESULT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The restored image, exactly as wide and high as the upload (its orientation applied); of a "
        "batch, a zip archive.",
        "content": IMAGES | {MEDIA_TYPE_ZIP: IMAGES["application/octet-stream"]},
        "headers": {"X-Restore-Dropped": DROPPED_HEADER, "X-Restore-Model": MODEL_HEADER},
    },
    304: {"description": "The client has it (`If-None-Match`)."},
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`progress` with each change, then `done`, `failed` or `cancelled`, and the end. The data is "
        "the job's document.",
        "content": {MEDIA_TYPE: {}},  # a schema would describe a single event
    },
    204: {"description": "The client has seen the last event (`Last-Event-ID`) and need not come back."},
}

router = APIRouter(prefix=PATH, tags=["jobs"])


async def _long_work(request: Request, job_id: str) -> LongWork:
    jobs = require_jobs(request.app.state.services.jobs)
    if (caller := caller_of(request.scope)) is not None:
        await jobs.check_owner(job_id, caller.name)
    return jobs


def require_jobs(jobs: LongWork | None) -> LongWork:
    """Return the jobs of this server; raises JobsOff if it keeps none."""
    if jobs is None:
        raise errors.JobsOff(
            "This server keeps no jobs: it was started without PROMPTIR_JOBS_FOLDER. Use POST /restore."
        )
    return jobs


Jobs = Annotated[LongWork, Depends(_long_work)]
_ABSENT = (errors.UnknownJob, errors.JobExpired, errors.JobDamaged, errors.JobsOff, errors.JobsUnavailable)


@router.get("/{job_id}", summary="The state of a job", responses=openapi_responses(*_ABSENT))
async def look(job_id: str, jobs: Jobs, services: InjectedServices, response: Response) -> Job | BatchJob:
    """State, finished and total tiles, and the predicted time left; of a batch, those of each photo too."""
    response.headers["Cache-Control"] = "no-store"
    return document_of(await jobs.look(job_id), services.public_root)


@router.get(
    "/{job_id}/result",
    summary="The restored image",
    response_class=Response,
    responses=_RESULT | openapi_responses(*_ABSENT, errors.JobUnfinished),
)
async def result(job_id: str, jobs: Jobs, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Available once the job is done, until it expires or is deleted; it can be fetched repeatedly.

    The result of a batch is a zip archive of the restored photos, with `errors.json` if some are missing.
    """
    now = await jobs.look(job_id)
    if isinstance(now, BatchStatus):
        return archive_response(jobs, now, if_none_match)
    record, size, file = await jobs.open_result(job_id)
    if record.answer is None:
        raise RuntimeError(f"the job {job_id} is done without an answer")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": disposition(record.order.filename, record.answer.output),
        "ETag": f'"{record.id}"',  # a result never changes
        "Vary": CREDENTIALS,
        "X-Restore-Mode": record.answer.mode,
    }
    if record.answer.model:
        headers["X-Restore-Model"] = model_header(record.answer.model).decode()
    if record.answer.dropped:
        headers["X-Restore-Dropped"] = ", ".join(record.answer.dropped)
    if is_listed(headers["ETag"], if_none_match):
        file.close()
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    return StreamingResponse(chunks(file), headers=headers, media_type=record.answer.output.media_type)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Cancel a job or remove its result",
    responses=openapi_responses(*_ABSENT, errors.DiskFull),
)
async def give_up(job_id: str, jobs: Jobs) -> None:
    """Cancels an unfinished job and keeps its record; removes a finished job entirely."""
    await jobs.give_up(job_id)


@router.get(
    "/{job_id}/events",
    summary="The events of a job, as server-sent events",
    response_class=Response,
    responses=_EVENTS | openapi_responses(*_ABSENT),
)
async def events(
    job_id: str, jobs: Jobs, services: InjectedServices, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """A client that returns with `Last-Event-ID` gets what is new since then, even after a restart of the server."""
    now = await jobs.look(job_id)
    if now.state.is_final and now.mark == last_event_id:
        return Response(status_code=204)
    news = _job_events(jobs.watch(job_id, last_event_id), services.public_root)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would buffer events
    return StreamingResponse(news, headers=headers, media_type=MEDIA_TYPE)


async def _job_events(news: AsyncIterator[Status | BatchStatus | None], root: str) -> AsyncIterator[bytes]:
    """Write `progress` with each change of a job, then `done`, `failed` or `cancelled`; comments while it is silent.

    The data is the job's document. The id names the moment, so a client that returns with it gets only what is new.
    """
    yield _FIRST
    async for now in news:
        yield _HEARTBEAT if now is None else _event(now, root)


def _event(now: Status | BatchStatus, root: str) -> bytes:
    name = now.state.value if now.state.is_final else "progress"
    document = document_of(now, root, with_photos=False)  # a long list at each change would be too much
    return f"id: {now.mark}\nevent: {name}\ndata: {document.model_dump_json()}\n\n".encode()
