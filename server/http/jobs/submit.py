"""Submit route: `POST /v1/jobs`, from the first bytes of the body to the stored job, and its part of OpenAPI."""

import time
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Header as HeaderParameter
from fastapi import Query
from fastapi.routing import APIRoute
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp

from server import errors
from server.access.caller import Caller
from server.http.body.compression import as_sent
from server.http.body.upload import BINARY_TYPES
from server.http.body.upload_route import Exchange, UploadRoute
from server.http.error_responses import openapi_responses
from server.http.jobs.orders import Orders
from server.http.jobs.photos import SEVERAL, Photos, read_photos
from server.http.jobs.routes import require_jobs
from server.http.jobs.schemas import PATH, BatchJob, Job
from server.http.restore.openapi import UPLOAD_ERRORS
from server.http.restore.options import (
    RestoreHeaders,
    RestoreQuery,
    check_form_fields,
    invalid_parameters,
    read_options,
    repeated,
)
from server.jobs.archive import MEDIA_TYPE, MOST_PHOTOS
from server.jobs.long_work import LongWork
from server.jobs.record import options_json
from server.jobs.webhook_hosts import MOST_URL_CHARACTERS
from server.tracing import stage

METHOD = "POST"
WEBHOOK = "webhook"


class SubmitRoute(UploadRoute):
    """Stores a job; takes the options of `POST /restore`, and checks them and the photos before it accepts.

    Several photos, as parts of a form or in an archive, make a batch; a bad one among them fails alone. Load is no
    reason to refuse: a job waits. Its upload shares one room with all others while it is read.
    """

    async def answer(self, exchange: Exchange) -> tuple[str, ASGIApp]:
        """Store the job, and answer 202 with its document."""
        job = await self._submit(exchange)
        location = {"Location": job.links["self"]}
        return "accepted", Response(job.model_dump_json(), 202, location, "application/json")

    async def _submit(self, exchange: Exchange) -> Job | BatchJob:
        jobs, limits = require_jobs(self._services.jobs), self._services.limits
        webhook, query = webhook_of(exchange.scope["query_string"])
        if webhook is not None:
            jobs.check_webhook(webhook)
        options = read_options(query, exchange.headers)
        self._services.restorer.model_named(options.restore.model)
        sent = as_sent(exchange.headers, exchange.body, self._room)
        deadline_at = None if options.patience_s is None else time.time() + options.patience_s
        orders = Orders(self._services.restorer, limits, options.restore, deadline_at, exchange.caller)
        with self._services.restorer.accepted():
            try:
                with stage("upload"):
                    photos = await read_photos(exchange.headers, sent, limits)
                check_form_fields(photos.fields, (*RestoreQuery.model_fields, WEBHOOK))
                return await self._store(jobs, photos, orders, webhook)
            finally:
                sent.release()

    async def _store(self, jobs: LongWork, photos: Photos, orders: Orders, webhook: str | None) -> Job | BatchJob:
        root = self._services.public_root
        if photos.are_several:
            submissions, pixels = await run_in_threadpool(orders.submissions, photos.files)
            _charge(orders.caller, pixels)
            options = options_json(orders.options)
            return BatchJob.of(await jobs.submit_batch(submissions, options, photos.archive_name, webhook), root)
        (upload,) = photos.files
        order, pixels = await run_in_threadpool(orders.order, upload)
        _charge(orders.caller, pixels)
        return Job.of(await jobs.submit(upload.data, order, webhook), root)


def webhook_of(query: bytes) -> tuple[str | None, bytes]:
    """Split the webhook from the other parameters of a query, which `/restore` has too."""
    if WEBHOOK.encode() not in query:
        return None, query
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    urls = [value for name, value in pairs if name == WEBHOOK]
    if len(urls) > 1:
        raise invalid_parameters([repeated(WEBHOOK)])
    rest = urlencode([(name, value) for name, value in pairs if name != WEBHOOK])
    return (urls[0] if urls else None), rest.encode()


def _charge(caller: Caller | None, pixels: int) -> None:
    if caller is not None:
        caller.charge_pixels(pixels)


_STORED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The job is stored: it survives a restart of the server.",
        "headers": {"Location": {"description": "Where the job is found.", "schema": {"type": "string"}}},
    }
}


_FILE = {"type": "string", "format": "binary"}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"One image, raw or as the field `file`; or up to {MOST_PHOTOS} images, as fields `{SEVERAL}` "
        "or in a zip archive. All files together have no more bytes than one upload may have.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": _FILE, SEVERAL: {"type": "array", "items": _FILE, "maxItems": MOST_PHOTOS}},
                }
            },
            **{media_type: {"schema": _FILE} for media_type in (*BINARY_TYPES, MEDIA_TYPE)},
        },
    }
}


class SubmitQuery(RestoreQuery):
    """The query parameters of a job."""

    webhook: Annotated[str, Field(max_length=MOST_URL_CHARACTERS)] | SkipJsonSchema[None] = Field(
        default=None,
        description="URL that is sent the job's document when it ends; only hosts of PROMPTIR_WEBHOOK_HOSTS are "
        "allowed.",
    )


def submit_document() -> APIRoute:
    """Describe the route to FastAPI's generator; its parameters are the models that the real route checks with."""
    return APIRoute(
        PATH,
        _submit,
        methods=[METHOD],
        status_code=202,
        summary="Restore one or several images later",
        operation_id="submit_job",
        tags=["jobs"],
        response_model=Job | BatchJob,
        openapi_extra=_REQUEST_BODY,
        responses=_STORED
        | openapi_responses(
            *UPLOAD_ERRORS,
            errors.JobsFull,
            errors.JobsOff,
            errors.JobsUnavailable,
            errors.DiskFull,
        ),
    )


def _submit(query: Annotated[SubmitQuery, Query()], urgency: Annotated[RestoreHeaders, HeaderParameter()]) -> None:
    """The body and the options of `/restore`. Jobs are of the batch class, so `X-Priority` changes nothing.

    `X-Deadline-Ms` counts from here, also while the server is down. What `report` asks for is in the job's document;
    the result is the image alone.
    """
