"""FormFiles: the files and short text fields of a multipart/form-data body, read while it arrives."""

from collections.abc import Mapping

from server.errors import InvalidRequest
from server.http.body.body import Body
from server.http.body.compression import InflatedBody
from server.http.body.file_buffer import FileBuffer, Look
from server.http.body.form import Form, content_type_of
from server.http.body.upload import Upload, feed_form

MOST_FIELDS = 32
MOST_FIELD_BYTES = 256 * 1024


class FormFiles(Form):
    """Collects the files of the fields in `names`, and the text of all fields that are no file.

    Files of other fields are skipped, as are files without a byte, which browsers send for an empty input. `looks`
    may refuse the files of a field by their first bytes. Raises InvalidRequest if the body is not a form or has more
    than `most_files` of these files.
    """

    def __init__(
        self, content_type: str, names: Mapping[str, str], most_files: int, looks: Mapping[str, Look] | None = None
    ) -> None:
        super().__init__(content_type)
        self.files: list[tuple[str, Upload]] = []
        """The files with the names that `names` gives to their fields, in the order of the form."""
        self.fields: dict[str, str] = {}
        """The text fields; of several with one name, the last."""
        self.repeated: set[str] = set()
        """The names that several text fields have."""
        self._names = names
        self._most_files = most_files
        self._looks = looks or {}
        self._buffer: FileBuffer | None = None
        self._count = self._part_count = 0

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Begin a part."""
        super().begin(headers)
        part, self._buffer = self._part, None
        self._part_count += 1
        if self._part_count > self._most_files + MOST_FIELDS:
            raise InvalidRequest(f"The form has more than {self._most_files + MOST_FIELDS} parts.")
        if part.filename is None:
            self._count += 1
            if self._count > MOST_FIELDS:
                raise InvalidRequest(f"The form has more than {MOST_FIELDS} fields beside the files.")
            self._buffer = FileBuffer(_seen)
        elif part.name is not None and part.name in self._names:
            self._buffer = FileBuffer(self._looks.get(self._names[part.name], _seen))

    def content(self, data: memoryview) -> None:
        """Add to the content of the part."""
        if self._buffer is None:
            return
        if self._part.filename is None and self._buffer.size + len(data) > MOST_FIELD_BYTES:
            raise InvalidRequest(f"The field {self._part.name} of the form has more than {MOST_FIELD_BYTES} bytes.")
        self._buffer.add(data)
        if self._part.filename is not None:
            self.file_bytes += len(data)

    def end(self) -> None:
        """End the part."""
        if self._buffer is None or self._part.name is None:
            return
        data = self._buffer.take()
        if self._part.filename is None:
            if self._part.name in self.fields:
                self.repeated.add(self._part.name)
            self.fields[self._part.name] = data.decode("utf-8", "replace")
        elif data:
            if len(self.files) == self._most_files:
                raise InvalidRequest(f"The form has more than {self._most_files} files.", max_files=self._most_files)
            self.files.append((self._names[self._part.name], Upload(data, self._part.filename)))
        self._buffer = None


async def read_form(
    headers: Mapping[bytes, bytes],
    body: Body | InflatedBody,
    names: Mapping[str, str],
    most_files: int,
    looks: Mapping[str, Look] | None = None,
) -> FormFiles:
    """Read a form whose files have no more bytes than the body may have; raises as FormFiles and the body."""
    form = FormFiles(content_type_of(headers), names, most_files, looks)
    await feed_form(form, body)
    return form


def _seen(start: bytes) -> bool:
    """Look at nothing."""
    return True
