"""Submit route: `POST /v1/jobs`, from the first bytes of the body to the stored job, and its part of OpenAPI."""

import time
from typing import Annotated, Any

from fastapi import Header as HeaderParameter
from fastapi import Query
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server import errors
from server.errors import PromptIRServeError
from server.formats.header import Header, peek, probe
from server.http import error_responses
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.body.compression import as_sent
from server.http.body.refusal import refuse
from server.http.body.upload import read_upload
from server.http.error_responses import openapi_responses
from server.http.jobs.routes import require_jobs
from server.http.jobs.schemas import PATH, Job
from server.http.restore.openapi import REQUEST_BODY, UPLOAD_ERRORS
from server.http.restore.options import RestoreHeaders, RestoreQuery, read_options
from server.http.scope import caller_of, note_outcome
from server.http.services import Services
from server.jobs.record import Order, options_json
from server.tracing import stage

METHOD = "POST"
ENCODING_ROOM = 1.02
"""The most that a PNG is larger than its samples, for an image of noise."""
CONTAINER_BYTES = 64 * 1024


class SubmitRoute:
    """Takes the same body and options as `POST /restore`, and answers faults in them at once in the same way.

    Load is no reason to refuse: a job waits. Its upload shares one room with all others while it is read.
    """

    def __init__(self, services: Services, room: UploadRoom) -> None:
        self._services = services
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        limits = self._services.limits
        body = Body(receive, declared_bytes(headers), limits.max_upload_bytes, self._room, limits.upload_stall_s)
        try:
            job = await self._submit(scope, headers, body)
        except PromptIRServeError as error:
            refusal = error_responses.answer(scope, error)
        except ClientDisconnect:
            refusal = error_responses.client_gone(scope)
        else:
            note_outcome(scope, "accepted")
            location = {"Location": job.links["self"]}
            await Response(job.model_dump_json(), 202, location, "application/json")(scope, receive, send)
            return
        await refuse(refusal, body, scope, receive, send)  # outside of `except`: a traceback would hold the upload

    async def _submit(self, scope: Scope, headers: dict[bytes, bytes], body: Body) -> Job:
        jobs, limits = require_jobs(self._services.jobs), self._services.limits
        options = read_options(scope["query_string"], headers)
        self._services.restorer.model_named(options.restore.model)
        sent = as_sent(headers, body, self._room)
        deadline_at = None if options.patience_s is None else time.time() + options.patience_s
        caller = caller_of(scope)
        with self._services.restorer.accepted():
            try:
                with stage("upload"):
                    upload = await read_upload(headers, sent, lambda start: peek(start, limits) is not None)
                header = await run_in_threadpool(probe, upload.data, limits)
                self._services.restorer.check(header.height, header.width, options.restore)
                if caller is not None:
                    caller.charge_pixels(header.decoded_pixels)
                order = Order(
                    options_json(options.restore),
                    upload.filename,
                    header.width * header.height,
                    _most_bytes(header),
                    deadline_at,
                    None if caller is None else caller.name,
                )
                return Job.of(await jobs.submit(upload.data, order), self._services.public_root)
            finally:
                sent.release()


def _most_bytes(header: Header) -> int:
    """Estimate the most bytes a result may have: its samples uncompressed, and the metadata of the upload."""
    samples = (1 if header.is_grey else 3) + header.has_alpha
    pixels = header.width * header.height * samples * (2 if header.depth > 8 else 1)
    notes = header.metadata
    carried = sum(len(part or b"") for part in (notes.icc_profile, notes.exif, notes.xmp))
    return int(pixels * ENCODING_ROOM) + carried + CONTAINER_BYTES


_STORED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The job is stored: it survives a restart of the server.",
        "headers": {"Location": {"description": "Where the job is found.", "schema": {"type": "string"}}},
    }
}


def submit_document() -> APIRoute:
    """Describe the route to FastAPI's generator; its parameters are the models that the real route checks with."""
    return APIRoute(
        PATH,
        _submit,
        methods=[METHOD],
        status_code=202,
        summary="Restore an image later",
        operation_id="submit_job",
        tags=["jobs"],
        response_model=Job,
        openapi_extra=REQUEST_BODY,
        responses=_STORED
        | openapi_responses(
            *UPLOAD_ERRORS,
            errors.JobsFull,
            errors.JobsOff,
            errors.JobsUnavailable,
            errors.DiskFull,
        ),
    )


def _submit(query: Annotated[RestoreQuery, Query()], urgency: Annotated[RestoreHeaders, HeaderParameter()]) -> None:
    """The body and the options of `/restore`. Jobs are of the batch class, so `X-Priority` changes nothing.

    `X-Deadline-Ms` counts from here, also while the server is down. What `report` asks for is in the job's document;
    the result is the image alone.
    """
