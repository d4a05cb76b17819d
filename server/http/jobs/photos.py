"""Photos of a new job: one image, several parts of a form, or a zip archive."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from server.errors import InvalidRequest
from server.formats.header import peek
from server.http.body.body import Body
from server.http.body.compression import InflatedBody
from server.http.body.form import FIELD, is_form, no_file
from server.http.body.form_files import read_form
from server.http.body.upload import Upload, read_upload
from server.jobs.archive import MAGIC, MOST_PHOTOS, ArchiveReader
from server.settings import LimitSettings

SEVERAL = "image"
"""The form field that may be repeated."""
_NAMES = {FIELD: FIELD, SEVERAL: SEVERAL, f"{SEVERAL}[]": SEVERAL}


@dataclass(frozen=True, slots=True)
class Photos:
    """The files of a request; `are_several` says that they make a batch, even if it is one file."""

    files: Sequence[Upload]
    are_several: bool = False
    archive_name: str | None = None
    fields: Collection[str] = ()
    """Names of the form's fields that are no file."""


async def read_photos(headers: Mapping[bytes, bytes], body: Body | InflatedBody, limits: LimitSettings) -> Photos:
    """Read the photos of a request, all of whose files together have no more bytes than one upload may have.

    Raises as `read_upload`, and InvalidRequest for archives and forms that are not accepted.
    """

    def look(start: bytes) -> bool:
        return start.startswith(MAGIC) or peek(start, limits) is not None

    if is_form(headers) and body.declared_bytes != 0:
        form = await read_form(headers, body, _NAMES, MOST_PHOTOS, {FIELD: look})
        several = [upload for name, upload in form.files if name == SEVERAL]
        single = [upload for name, upload in form.files if name == FIELD]
        if several and single:
            raise InvalidRequest(f"The form has files in `{FIELD}` and in `{SEVERAL}`: send one kind.")
        if several:
            return Photos(several, are_several=True, fields=form.fields)
        if not single:
            raise no_file(form.fields, FIELD, SEVERAL)
        if len(single) > 1:
            raise InvalidRequest(f"The form has more than one file in `{FIELD}`: send several photos as `{SEVERAL}`.")
        (upload,), fields = single, frozenset(form.fields)
    else:
        upload = await read_upload(headers, body, look)
        fields = upload.fields
    if not upload.data.startswith(MAGIC):
        return Photos([upload], fields=fields)
    archive = await run_in_threadpool(ArchiveReader, upload.data, limits.max_upload_bytes)
    body.held.take(archive.inflated_bytes)
    found = await run_in_threadpool(archive.read)
    return Photos([Upload(each.data, each.filename) for each in found], True, upload.filename, fields)
