"""Form: the one file of a multipart/form-data body, while it arrives."""

from collections.abc import Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.errors import InvalidRequest

FIELD = "file"
_MOST_FIELDS = 16


class FormFile:
    """Takes the chunks of a form and keeps the content of the field `file`; other fields are skipped.

    Raises InvalidRequest for what is no form, has more than one file, or not the one that is wanted.
    """

    def __init__(self, content_type: str) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise InvalidRequest("The form cannot be read: its content type names no boundary.")
        self.parts: list[bytes] = []
        self.size = 0
        self.filename: str | None = None
        self._is_file = self._complete = False
        self._files = self._fields = 0
        self._name = self._value = self._disposition = b""
        with _well_formed():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                },
            )

    def feed(self, chunk: bytes) -> None:
        with _well_formed():
            self._parser.write(chunk)

    def finish(self) -> None:
        """The body has ended."""
        with _well_formed():
            self._parser.finalize()
        if not self._complete:
            raise InvalidRequest(f"The form has no file in the field `{FIELD}`.", expected_field=FIELD)

    def _on_part_begin(self) -> None:
        self._is_file = False
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise InvalidRequest("The form cannot be read: a part of it has no name.")
        if b"filename" not in options:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise InvalidRequest(f"The form has more than {_MOST_FIELDS} fields beside the file.")
            return
        self._files += 1
        if self._files > 1:
            raise InvalidRequest("The form has more than one file: send one image a request.")
        if name == FIELD.encode():
            self._is_file = True
            self.filename = options[b"filename"].decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.parts.append(data[start:end])
            self.size += end - start

    def _on_part_end(self) -> None:
        self._complete = self._complete or self._is_file


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise InvalidRequest("The form cannot be read: it is broken.") from error
