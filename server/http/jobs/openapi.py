"""Submit document: what OpenAPI says about `POST /v1/jobs`, which no framework route answers."""

from typing import Annotated, Any

from fastapi import Header, Query
from fastapi.routing import APIRoute

from server import errors
from server.http.error_responses import openapi_responses
from server.http.jobs.schemas import PATH, Job
from server.http.jobs.submit import METHOD
from server.http.restore.openapi import REQUEST_BODY, UPLOAD_ERRORS
from server.http.restore.options import RestoreHeaders, RestoreQuery

_STORED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The job is stored: it survives a restart of the server.",
        "headers": {"Location": {"description": "Where the job is found.", "schema": {"type": "string"}}},
    }
}


def submit_document() -> APIRoute:
    """A route for FastAPI's generator only; its parameters are the models that the real route checks with."""
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


def _submit(query: Annotated[RestoreQuery, Query()], urgency: Annotated[RestoreHeaders, Header()]) -> None:
    """The body and the options of `/restore`. Jobs are of the batch class, so `X-Priority` changes nothing.

    `X-Deadline-Ms` counts from here, also while the server is down. What `report` asks for is in the job's document;
    the result is the image alone.
    """
