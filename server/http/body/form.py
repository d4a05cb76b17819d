"""Form: the one file of a multipart/form-data body, while it arrives."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from python_multipart.multipart import parse_options_header

from server.errors import InvalidRequest
from server.http.body.disposition import Disposition
from server.http.body.file_buffer import FileBuffer
from server.http.body.form_parts import FormError, FormParts

FIELD = "file"
_MOST_FIELDS = 16


class FormFile:
    """Takes the chunks of a form and puts the content of the field `file` into a buffer; other fields are skipped.

    So are files without a byte: browsers send one for each input where none was chosen. Raises InvalidRequest for what
    is no form, has more than one file, or not the one that is wanted.
    """

    def __init__(self, content_type: str, file: FileBuffer) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise InvalidRequest("The form cannot be read: its content type names no boundary.")
        self.filename: str | None = None
        self._file = file
        self._part = Disposition(None, None)
        self._has_content = self._found = False
        self._files = self._others = 0
        with _well_formed():
            self._parts = FormParts(boundary, self)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        with _well_formed():
            self._parts.feed(chunk)

    def finish(self) -> None:
        """The body has ended."""
        if not self._parts.ended:
            raise InvalidRequest(
                "The form cannot be read: it is cut off, or its boundary is not the one that is named."
            )
        if not self._found:
            raise InvalidRequest(f"The form has no file in the field `{FIELD}`.", expected_field=FIELD)

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """A part begins."""
        self._part, self._has_content = Disposition.of(headers.get(b"content-disposition", b"")), False
        if self._part.name is None:
            raise InvalidRequest("The form cannot be read: a part of it has no name.")
        if self._is_file():
            self._found = True
        else:
            self._others += 1
            if self._others > _MOST_FIELDS:
                raise InvalidRequest(f"The form has more than {_MOST_FIELDS} fields beside the file.")

    def content(self, data: memoryview) -> None:
        """Some bytes of its content."""
        if not self._has_content and self._part.filename is not None:
            self._files += 1
            if self._files > 1:
                raise InvalidRequest("The form has more than one file: send one image a request.")
        self._has_content = True
        if self._is_file():
            self.filename = self._part.filename
            self._file.add(data)

    def end(self) -> None:
        """The part ends."""

    def _is_file(self) -> bool:
        return self._part.name == FIELD and self._part.filename is not None


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except FormError as error:
        raise InvalidRequest(f"The form cannot be read: {error}.") from error
