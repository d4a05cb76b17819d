"""Restore route: `POST /restore`, from the first bytes of the body to the answer."""

from functools import partial

from starlette.types import ASGIApp

from server.formats.header import Header, Peeked, peek
from server.http.body.body import Body, UploadRoom
from server.http.body.compression import InflatedBody, as_sent
from server.http.body.form import is_form
from server.http.body.upload import Upload, read_upload
from server.http.body.upload_route import Exchange, UploadRoute
from server.http.restore.answer import not_modified, restored_answer
from server.http.restore.options import RequestOptions, check_form_fields, read_options
from server.http.restore.shared_work import SharedWork
from server.http.services import Services
from server.imaging.entity_tag import is_listed
from server.restore.options import Restored
from server.restore.request import RestoreRequest
from server.tracing import stage

PATH = "/restore"
METHOD = "POST"
HOLD_S = 1.0
"""How long the ticket of an upload that is still arriving is held. A slower one is admitted again once it is whole: a
client that sends nothing must not keep others out, nor a device idle."""


class RestoreRoute(UploadRoute):
    """Restores one image, with little work for each request.

    The first bytes of an image decide: it is refused by size or by load before the rest is read, or gets its ticket.
    """

    def __init__(self, services: Services) -> None:
        limits = services.limits
        room = UploadRoom(max(limits.max_uploads_bytes, limits.max_upload_bytes), services.metrics.count_refusal)
        super().__init__(services, room)
        self.room = room
        """The room for uploads, which all routes share."""
        self._shared = SharedWork[Restored]()
        services.metrics.watch_uploads(lambda: room.used_bytes)

    async def answer(self, exchange: Exchange) -> tuple[str, ASGIApp]:
        """Restore the image, alone or with equal requests; 304 if the client has the result."""
        restorer = self._services.restorer
        options = read_options(exchange.scope["query_string"], exchange.headers)
        restorer.model_named(options.restore.model)
        sent = as_sent(exchange.headers, exchange.body, self._room)
        deadline = restorer.deadline_in(options.patience_s)
        with restorer.accepted():
            request = RestoreRequest(options.restore, deadline, options.priority, exchange.caller, sent.held)

            is_ours = True  # until it belongs to the work that equal requests share
            try:
                upload = await self._read(exchange, sent, request)
                tag = await self._tag(upload, options)
                if is_listed(tag, options.if_none_match):
                    return "not-modified", not_modified(tag)
                filename = upload.filename
                with exchange.while_connected():
                    # A deadline is one client's own, so its work is too.
                    key = (tag, options.priority) if deadline is None else object()
                    start = partial(restorer.restore, upload.data, request)
                    del upload  # from here on the work alone holds it, and what is reserved for it
                    is_ours = False
                    joined = self._shared.join(key, start, request.close)
                    del start
                    restored = await joined
                return "restored", restored_answer(restored, filename, tag, as_json=options.as_json)
            finally:
                if is_ours:
                    request.close()
                    sent.release()

    async def _read(self, exchange: Exchange, sent: Body | InflatedBody, request: RestoreRequest) -> Upload:
        """Read the upload, and admit and charge the request as soon as it is known how large the image is."""
        restorer, limits = self._services.restorer, self._services.limits

        def look(start: bytes) -> bool:
            peeked: Header | Peeked | None = None
            if sent.ended and not is_form(exchange.headers):  # of a form, the end may be missing
                peeked = restorer.glance(start, request)
            peeked = peeked or peek(start, limits)
            if peeked is not None:
                restorer.admit(request, peeked.height, peeked.width, input_format=peeked.format)
                request.charge(peeked.height * peeked.width)
                if not sent.ended:
                    request.lapse_after(HOLD_S)
            return peeked is not None

        with stage("upload"):
            upload = await read_upload(exchange.headers, sent, look)
        check_form_fields(upload.fields)
        if request.owes:  # the first bytes did not tell its size
            header = await restorer.inspect(upload.data, request)
            request.charge(header.decoded_pixels)
        return upload

    async def _tag(self, upload: Upload, options: RequestOptions) -> str:
        tag = await self._services.restorer.tag(upload.data, options.restore)
        return f'{tag[:-1]}-json"' if options.as_json else tag
