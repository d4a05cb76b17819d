"""Upload: the image bytes of a request, read within the limits."""

from collections.abc import Mapping
from typing import NamedTuple

from server.errors import EmptyUpload
from server.http.body.body import Body
from server.http.body.compression import InflatedBody
from server.http.body.file_buffer import FileBuffer, Look
from server.http.body.form import Form, FormFile, content_type_of, is_form

BINARY_TYPES = ("image/*", "application/octet-stream")
"""The media types of a raw body in OpenAPI; the server goes by its bytes, whatever its media type."""

# Boundaries, part headers and small fields that a form may have around the file.
FORM_ALLOWANCE_BYTES = 64 * 1024


class Upload(NamedTuple):
    """The bytes of one file, and the name its sender gave it."""

    data: bytes
    filename: str | None
    fields: frozenset[str] = frozenset()
    """Names of the other fields of its form that are no file."""


async def read_upload(headers: Mapping[bytes, bytes], body: Body | InflatedBody, look: Look) -> Upload:
    """Read the file of a request: the form field `file`, or a raw body.

    `look` may refuse it meanwhile. Raises EmptyUpload, ImageTooLarge, InvalidRequest (a broken form or one without the
    file, or broken compression), QueueFull (too much is being read), ClientDisconnect.
    """
    if body.declared_bytes == 0:
        raise EmptyUpload("The request has no body: send the bytes of one image.")
    upload = await (_read_form(headers, body, look) if is_form(headers) else _read_raw(body, look))
    if not upload.data:
        raise EmptyUpload("The upload is empty: send the bytes of one image.")
    return upload


async def _read_raw(body: Body | InflatedBody, look: Look) -> Upload:
    file = FileBuffer(look)
    while not body.ended:
        file.add(await body.chunk())
    return Upload(file.take(), None)


async def feed_form(form: Form, body: Body | InflatedBody) -> None:
    """Read a form whose files have no more bytes than the body may have; raises as the form and the body."""
    max_bytes = body.limit_bytes
    body.limit_bytes += FORM_ALLOWANCE_BYTES
    while not body.ended:
        form.feed(await body.chunk())
        if form.file_bytes > max_bytes:
            raise body.too_large()
    form.finish()


async def _read_form(headers: Mapping[bytes, bytes], body: Body | InflatedBody, look: Look) -> Upload:
    file = FileBuffer(look)
    form = FormFile(content_type_of(headers), file)
    await feed_form(form, body)
    return Upload(file.take(), form.filename, frozenset(form.fields))
