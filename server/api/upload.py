"""Upload: the image bytes of a request, read within the limits."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from server.errors import EmptyUpload, ImageTooLarge, InvalidRequest, UnsupportedImage

FIELD = "file"
BINARY_TYPES = ("image/*", "application/octet-stream")

# Boundaries, part headers and small fields that a form may have around the file.
_FORM_ALLOWANCE_BYTES = 64 * 1024
_MAX_FORM_FIELDS = 16


@dataclass(frozen=True)
class Upload:
    """The bytes of one file, and the name its sender gave it."""

    data: bytes
    filename: str | None


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Read the file of a request, from the form field `file` or as the raw body.

    The limit is enforced on Content-Length at once and while the chunks arrive. Raises EmptyUpload, ImageTooLarge,
    UnsupportedImage (a content type that is neither), InvalidRequest (a broken form or one without the file).
    """
    if request.headers.get("content-length") == "0":
        raise EmptyUpload("The request has no body: send the bytes of one image.")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        upload = await _read_form(request, max_bytes)
    elif content_type.startswith("image/") or content_type in ("", "application/octet-stream"):
        upload = Upload(b"".join([chunk async for chunk in _limited(request, max_bytes, max_bytes)]), None)
    else:
        raise UnsupportedImage(
            f"Content-Type {content_type} is not taken: send the image as the body with its own type, for example "
            f"image/png, or as the field `{FIELD}` of a form.",
            allowed_content_types=[*BINARY_TYPES, "multipart/form-data"],
        )
    if not upload.data:
        raise EmptyUpload("The upload is empty: send the bytes of one image.")
    return upload


async def _read_form(request: Request, max_bytes: int) -> Upload:
    body_limit = max_bytes + _FORM_ALLOWANCE_BYTES
    parser = MultiPartParser(
        request.headers, _limited(request, body_limit, max_bytes), max_files=1, max_fields=_MAX_FORM_FIELDS
    )
    parser.spool_max_size = body_limit  # the file stays in memory: it never touches the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The form cannot be read: {error.message}") from error
    except ValueError as error:  # a charset that decodes nothing, for one
        raise InvalidRequest("The form cannot be read: its headers are broken.") from error
    try:
        field = form.get(FIELD)
        if not isinstance(field, UploadFile):
            raise InvalidRequest(f"The form has no file in the field `{FIELD}`.", expected_field=FIELD)
        data = await field.read()
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
        return Upload(data, field.filename)
    finally:
        await form.close()


async def _limited(request: Request, body_limit: int, max_bytes: int) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > body_limit:
        raise _too_large(max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > body_limit:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The upload is larger than the {max_bytes} bytes that are taken.", max_upload_bytes=max_bytes)
