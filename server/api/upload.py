"""Upload: the image bytes of a request, read within the limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.api.body import Body
from server.api.form import FIELD, FormFile
from server.errors import EmptyUpload, UnsupportedImage

BINARY_TYPES = ("image/*", "application/octet-stream")

Look = Callable[[bytes], bool]
"""Is shown the first bytes of the file; refuses it by raising, or says whether it has seen enough."""

# Boundaries, part headers and small fields that a form may have around the file.
_FORM_ALLOWANCE_BYTES = 64 * 1024
# A photo says its size within its first kilobytes, unless a long profile or preview stands before it.
_LAST_LOOK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """The bytes of one file, and the name its sender gave it."""

    data: bytes
    filename: str | None


async def read_upload(headers: Mapping[bytes, bytes], body: Body, look: Look) -> Upload:
    """Read the file of a request, from the form field `file` or as the raw body; `look` may refuse it on the way.

    Raises EmptyUpload, ImageTooLarge, UnsupportedImage (a content type that is neither), InvalidRequest (a broken form
    or one without the file), QueueFull (too much is being read), ClientDisconnect.
    """
    if body.declared_bytes == 0:
        raise EmptyUpload("The request has no body: send the bytes of one image.")
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        upload = await _read_form(FormFile(content_type), body, look)
    elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
        upload = await _read_raw(body, look)
    else:
        raise UnsupportedImage(
            f"Content-Type {kind} is not taken: send the image as the body with its own type, for example "
            f"image/png, or as the field `{FIELD}` of a form.",
            allowed_content_types=[*BINARY_TYPES, "multipart/form-data"],
        )
    if not upload.data:
        raise EmptyUpload("The upload is empty: send the bytes of one image.")
    return upload


async def _read_raw(body: Body, look: Look) -> Upload:
    start = _Start(look)
    parts = [await body.chunk()]
    size = len(parts[0])
    start.show(parts, size)
    while not body.ended:
        parts.append(await body.chunk())
        size += len(parts[-1])
        start.show(parts, size)
    return Upload(_joined(parts), None)


async def _read_form(form: FormFile, body: Body, look: Look) -> Upload:
    max_bytes = body.limit_bytes
    body.limit_bytes += _FORM_ALLOWANCE_BYTES
    start = _Start(look)
    while not body.ended:
        form.feed(await body.chunk())
        if form.size > max_bytes:
            raise body.too_large()
        start.show(form.parts, form.size)
    form.finish()
    return Upload(_joined(form.parts), form.filename)


class _Start:
    """Shows the beginning of a file while it arrives: at once, and whenever twice as much is there."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._next_bytes = 1

    def show(self, parts: list[bytes], size: int) -> None:
        if not 0 < self._next_bytes <= size:
            return
        enough = self._look(_joined(parts))
        self._next_bytes = 0 if enough or size >= _LAST_LOOK_BYTES else 2 * size


def _joined(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)
