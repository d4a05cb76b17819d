"""Answers with the results of a batch as a zip archive, written while it is sent."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from typing import BinaryIO

from fastapi import Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from server.errors import JobError, JobUnfinished
from server.errors.problem import problem_of
from server.http.middleware.privacy import CREDENTIALS
from server.imaging.entity_tag import is_listed
from server.jobs.archive import MEDIA_TYPE, ArchiveWriter, Failure, Names
from server.jobs.long_work import LongWork
from server.jobs.record import State
from server.jobs.run import BatchStatus, Status

CHUNK_BYTES = 256 * 1024


def archive_response(jobs: LongWork, now: BatchStatus, if_none_match: str | None) -> Response:
    """Answer with the archive of a finished batch; raises JobUnfinished if there is none, or not yet."""
    id_ = now.batch.id
    if now.state is not State.DONE:
        raise JobUnfinished(f"The job {id_} is {now.state}: it has no result.", state=now.state.value)
    tag = f'"{id_}-{len(now.photos)}-{now.counts[State.DONE]}"'
    headers = {
        "Content-Disposition": 'attachment; filename="restored.zip"',
        "ETag": tag,  # a result never changes, but a photo may be deleted
        "Vary": CREDENTIALS,
    }
    if is_listed(tag, if_none_match):
        return Response(status_code=304, headers={"ETag": tag})
    return StreamingResponse(_archive(jobs, now), headers=headers, media_type=MEDIA_TYPE)


async def chunks(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Read a file in chunks and close it."""
    try:
        while chunk := await run_in_threadpool(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


async def _archive(jobs: LongWork, now: BatchStatus) -> AsyncIterator[bytes]:
    names, failures = Names(), list[Failure]()
    with closing(ArchiveWriter()) as writer:
        for photo in now.photos:
            filename = photo.record.order.filename
            if photo.record.answer is None:
                failures.append(Failure(filename, photo.state, photo.record.problem))
                continue
            try:
                record, size, file = await jobs.open_result(photo.record.id)
            except JobError as error:  # deleted, expired or damaged meanwhile
                failures.append(_missing(photo, error))
                continue
            suffix = "" if record.answer is None else record.answer.output.suffix
            yield writer.begin(names.of(filename, suffix), size)
            async with aclosing(chunks(file)) as pieces:
                async for piece in pieces:
                    yield writer.write(piece)
            yield writer.end()
        yield writer.finish(failures)


def _missing(photo: Status, error: JobError) -> Failure:
    record = photo.record
    return Failure(record.order.filename, photo.state, problem_of(error, f"urn:promptir:job:{record.id}"))
