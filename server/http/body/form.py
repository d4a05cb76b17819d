"""Form: the one file of a multipart/form-data body (RFC 2046, section 5.1), read while the body arrives."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from python_multipart.multipart import parse_options_header

from server.errors import InvalidRequest
from server.http.body.disposition import Disposition
from server.http.body.file_buffer import FileBuffer

FIELD = "file"
_MOST_FIELDS = 16
MOST_HEADER_BYTES = 8 * 1024
_TEXT_ENCODINGS = (b"base64", b"quoted-printable")
# RFC 2046 allows 70 characters; clients in use stay below this.
_MOST_BOUNDARY_BYTES = 200
# Spaces that may follow a boundary on its line, in bytes.
_MOST_PADDING_BYTES = 64
_FOLD = re.compile(rb"\r?\n[ \t]+")


def content_type_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the Content-Type of a request; empty if it has none."""
    return headers.get(b"content-type", b"").decode("latin-1")


def is_form(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether the body of a request is a form."""
    return content_type_of(headers).partition(";")[0].strip().lower() == "multipart/form-data"


class Form:
    """Base of a form's readers: takes the body in pieces, and raises InvalidRequest if it is not a form."""

    def __init__(self, content_type: str) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise InvalidRequest("The form cannot be read: its content type names no boundary.")
        self.file_bytes = 0
        """Bytes of the collected files so far."""
        self._part = Disposition(None, None)
        with _well_formed():
            self._parts = FormParts(boundary)

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body."""
        with _well_formed():
            self._parts.feed(chunk, self)

    def finish(self) -> None:
        """Check at the end of the body that the form was whole."""
        if not self._parts.ended:
            raise InvalidRequest(
                "The form cannot be read: it is cut off, or its boundary is not the one that is named."
            )

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Begin a part."""
        self._part = Disposition.of(headers.get(b"content-disposition", b""))
        if self._part.name is None:
            raise InvalidRequest("The form cannot be read: a part of it has no name.")
        encoding = headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding in _TEXT_ENCODINGS:
            raise InvalidRequest(
                f"The form cannot be read: its part `{self._part.name}` is encoded ({encoding.decode()}), "
                "which RFC 7578 does not allow: send the bytes as they are."
            )

    def content(self, data: memoryview) -> None:
        """Add to the content of the part."""

    def end(self) -> None:
        """End the part."""


class FormFile(Form):
    """Puts the content of the field `file` into a buffer; skips other fields, and files without a byte.

    Browsers send an empty file for each input in which none was chosen. Raises InvalidRequest if the body is not a
    form, or does not have exactly one file, in this field.
    """

    def __init__(self, content_type: str, file: FileBuffer) -> None:
        super().__init__(content_type)
        self.filename: str | None = None
        self.fields: set[str] = set()
        """Names of the fields that are no file."""
        self._file = file
        self._has_content = self._found = False
        self._files = self._others = 0

    def finish(self) -> None:
        """Check at the end of the body that the form was whole and had its file."""
        super().finish()
        if not self._found:
            raise no_file(self.fields, FIELD)

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Begin a part."""
        super().begin(headers)
        self._has_content = False
        if self._is_file():
            self._found = True
        else:
            if self._part.filename is None:
                self.fields.add(self._part.name or "")
            self._others += 1
            if self._others > _MOST_FIELDS:
                raise InvalidRequest(f"The form has more than {_MOST_FIELDS} fields beside the file.")

    def content(self, data: memoryview) -> None:
        """Add to the content of the part."""
        if not self._has_content and self._part.filename is not None:
            self._files += 1
            if self._files > 1:
                raise InvalidRequest("The form has more than one file: send one image a request.")
        self._has_content = True
        if self._is_file():
            self.filename = self._part.filename
            self._file.add(data)
            self.file_bytes = self._file.size

    def _is_file(self) -> bool:
        return self._part.name == FIELD and self._part.filename is not None


def no_file(texts: Collection[str], *fields: str) -> InvalidRequest:
    """Return the error for a form without a file in one of `fields`; `texts` are its fields that are no file."""
    names = " or ".join(f"`{field}`" for field in fields)
    detail = f"The form has no file in the field {names}."
    if (sent := next((field for field in fields if field in texts), None)) is not None:
        detail += f" Its `{sent}` is text, having no filename: add one, as `curl -F {sent}=@photo.jpg` does."
    return InvalidRequest(detail, expected_field=fields[0])


class FormError(ValueError):
    """Says why a body is not a form."""


class PartSink(Protocol):
    """Receives the parts of a form."""

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Begin a part with these headers, by lower-case name."""

    def content(self, data: memoryview) -> None:
        """Add to the content of the part; the view is valid during the call only."""

    def end(self) -> None:
        """End the part."""


class FormParts:
    """Splits a body at its boundary and passes the parts on to a sink.

    It keeps no reference to the sink, and its steps are plain functions: no cycle holds an upload that was refused.

    Text before the first boundary and after the last one is skipped. Lines end like the one of the first boundary: in
    CR LF, as the standard demands, or in LF alone, as hand-written scripts have it.
    """

    def __init__(self, boundary: bytes) -> None:
        if not 0 < len(boundary) <= _MOST_BOUNDARY_BYTES:
            raise FormError(f"its boundary must have 1 to {_MOST_BOUNDARY_BYTES} characters")
        self.ended = False
        """Whether the last boundary was read."""
        self._boundary = b"--" + boundary
        self._newline = b"\n"
        self._buffer = bytearray(b"\n")  # before the first line, as before all others
        self._step: Callable[[FormParts, PartSink], bool] = FormParts._preamble

    def feed(self, data: bytes, sink: PartSink) -> None:
        """Read the next bytes, for the sink of the whole body. Raises FormError, and what the sink raises."""
        if self.ended:
            return
        self._buffer += data
        while self._step(self, sink):
            pass

    # Each step returns whether another one can follow with the bytes that are there.

    def _preamble(self, sink: PartSink) -> bool:
        delimiter = b"\n" + self._boundary
        at = self._buffer.find(delimiter)
        if at < 0:
            del self._buffer[: max(0, len(self._buffer) - len(delimiter))]
            return False
        del self._buffer[: at + len(delimiter)]
        self._step = FormParts._first_line
        return True

    def _first_line(self, sink: PartSink) -> bool:
        if (rest := self._rest_of_line(sink)) is None:
            return False
        if rest.strip():
            self._step = FormParts._preamble
        else:
            self._newline = b"\r\n" if rest.endswith(b"\r\n") else b"\n"
            del self._buffer[: len(rest)]
            self._step = FormParts._headers
        return True

    def _line(self, sink: PartSink) -> bool:
        if (rest := self._rest_of_line(sink)) is None:
            return False
        if rest.strip():  # longer than the boundary: it is content
            sink.content(memoryview(self._newline + self._boundary))
            self._step = FormParts._content
        else:
            sink.end()
            del self._buffer[: len(rest)]
            self._step = FormParts._headers
        return True

    def _rest_of_line(self, sink: PartSink) -> bytes | None:
        """Return the rest of the line after the boundary; None until it is complete, and at the end of the form."""
        if self._buffer.startswith(b"--"):
            if self._step is FormParts._line:
                sink.end()
            self.ended = True
            return None
        end = self._buffer.find(b"\n", 0, _MOST_PADDING_BYTES) + 1
        whole = end or len(self._buffer) >= _MOST_PADDING_BYTES
        return bytes(self._buffer[: end or _MOST_PADDING_BYTES]) if whole else None

    def _headers(self, sink: PartSink) -> bool:
        blank = self._newline * 2
        at = 0 if self._buffer.startswith(self._newline) else self._buffer.find(blank, 0, MOST_HEADER_BYTES)
        if at < 0:
            if len(self._buffer) >= MOST_HEADER_BYTES:
                raise FormError(f"the headers of a part have more than {MOST_HEADER_BYTES} bytes")
            return False
        lines = _FOLD.sub(b" ", bytes(self._buffer[:at])).split(self._newline)
        # The second line end stays: if the part has no content, it belongs to the next boundary.
        del self._buffer[: at and at + len(self._newline)]
        sink.begin(dict(_header(line) for line in lines if line))
        self._step = FormParts._content_start
        return True

    def _content_start(self, sink: PartSink) -> bool:
        delimiter = self._newline + self._boundary
        if len(self._buffer) < len(delimiter):
            return False
        if not self._buffer.startswith(delimiter):
            del self._buffer[: len(self._newline)]
        self._step = FormParts._content
        return True

    def _content(self, sink: PartSink) -> bool:
        delimiter = self._newline + self._boundary
        at = self._buffer.find(delimiter)
        self._pass_on(max(0, len(self._buffer) - len(delimiter)) if at < 0 else at, sink)
        if at < 0:
            return False
        del self._buffer[: len(delimiter)]
        self._step = FormParts._line
        return True

    def _pass_on(self, count: int, sink: PartSink) -> None:
        if count:
            with memoryview(self._buffer) as view, view[:count] as content:
                sink.content(content)
            del self._buffer[:count]


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except FormError as error:
        raise InvalidRequest(f"The form cannot be read: {error}.") from error


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise FormError("a line among the headers of a part is no header")
    return name.strip().lower(), value.strip()
