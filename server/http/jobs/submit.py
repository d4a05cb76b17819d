"""Submit route: `POST /v1/jobs`, from the first bytes of the body to the job that is stored."""

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import PromptIRServeError
from server.formats.header import Header, peek, probe
from server.http import error_responses
from server.http.auth.caller import caller_of, charge
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.body.inflated_body import as_sent
from server.http.body.upload import read_upload
from server.http.jobs.routes import require_jobs
from server.http.jobs.schemas import Job
from server.http.middleware.request_context import note_outcome
from server.http.restore.options import read_options
from server.http.restore.route import refuse
from server.http.services import Services
from server.jobs.record import Order, options_json
from server.tracing import stage

METHOD = "POST"
ENCODING_ROOM = 1.02
"""A PNG of noise is a little larger than its samples."""
CONTAINER_BYTES = 64 * 1024


class SubmitRoute:
    """The same body and options as `POST /restore`, and what is wrong with them is said at once in the same way.

    Its load is no reason to refuse: a job waits. The uploads that are being read share one room with all others.
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
        await refuse(refusal, body, scope, receive, send)  # without the error: its traceback holds what had come

    async def _submit(self, scope: Scope, headers: dict[bytes, bytes], body: Body) -> Job:
        jobs, limits = require_jobs(self._services.jobs), self._services.limits
        options = read_options(scope["query_string"], headers)
        sent = as_sent(headers, body, self._room)
        deadline_at = None if options.patience_s is None else time.time() + options.patience_s
        caller = caller_of(scope)
        with self._services.restorer.accepted():
            try:
                with stage("upload"):
                    upload = await read_upload(headers, sent, lambda start: peek(start, limits) is not None)
                header = await run_in_threadpool(probe, upload.data, limits)
                self._services.restorer.check(header.height, header.width, options.restore)
                charge(scope, header.decoded_pixels)
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
    """The most bytes that a result is thought to have: its samples as they are, and what the upload carries."""
    samples = (1 if header.is_grey else 3) + header.has_alpha
    pixels = header.width * header.height * samples * (2 if header.depth > 8 else 1)
    notes = header.metadata
    carried = sum(len(part or b"") for part in (notes.icc_profile, notes.exif, notes.xmp))
    return int(pixels * ENCODING_ROOM) + carried + CONTAINER_BYTES
