"""Form parts: a multipart body cut into its parts while it arrives (RFC 2046, section 5.1)."""

import re
from collections.abc import Callable, Mapping
from typing import Protocol

MOST_HEADER_BYTES = 8 * 1024
# RFC 2046 allows 70 characters, and none is needed that is longer than this.
_MOST_BOUNDARY_BYTES = 200
# Spaces that may follow a boundary on its line.
_MOST_PADDING_BYTES = 64
_FOLD = re.compile(rb"\r?\n[ \t]+")


class FormError(ValueError):
    """The body is no form; says why."""


class PartSink(Protocol):
    """Takes what the parts are made of."""

    def begin(self, headers: Mapping[bytes, bytes]) -> None:
        """A part begins, with these headers by their name in lower case."""

    def content(self, data: memoryview) -> None:
        """Some bytes of its content; the view ends with the call."""

    def end(self) -> None:
        """The part ends."""


class FormParts:
    """Cuts at the boundary, and tells a sink.

    What stands before the first boundary and behind the last one is skipped. Lines end as the first boundary's does: in
    CR LF, as the standard asks, or in LF alone, as scripts write forms.
    """

    def __init__(self, boundary: bytes, sink: PartSink) -> None:
        if not 0 < len(boundary) <= _MOST_BOUNDARY_BYTES:
            raise FormError(f"its boundary must have 1 to {_MOST_BOUNDARY_BYTES} characters")
        self.ended = False
        """Whether the last boundary has come."""
        self._sink = sink
        self._boundary = b"--" + boundary
        self._newline = b"\n"
        self._buffer = bytearray(b"\n")  # before the first line, as before all others
        self._step: Callable[[], bool] = self._preamble

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises FormError, and what the sink raises."""
        if self.ended:
            return
        self._buffer += data
        while self._step():
            pass

    # Each step says whether the next one may be tried: with more of the same bytes, or with other ones.

    def _preamble(self) -> bool:
        delimiter = b"\n" + self._boundary
        at = self._buffer.find(delimiter)
        if at < 0:
            del self._buffer[: max(0, len(self._buffer) - len(delimiter))]
            return False
        del self._buffer[: at + len(delimiter)]
        self._step = self._first_line
        return True

    def _first_line(self) -> bool:
        if (rest := self._rest_of_line()) is None:
            return False
        if rest.strip():
            self._step = self._preamble
        else:
            self._newline = b"\r\n" if rest.endswith(b"\r\n") else b"\n"
            del self._buffer[: len(rest)]
            self._step = self._headers
        return True

    def _line(self) -> bool:
        if (rest := self._rest_of_line()) is None:
            return False
        if rest.strip():  # the boundary is the beginning of something else
            self._sink.content(memoryview(self._newline + self._boundary))
            self._step = self._content
        else:
            self._sink.end()
            del self._buffer[: len(rest)]
            self._step = self._headers
        return True

    def _rest_of_line(self) -> bytes | None:
        """What follows the boundary on its line; None until it is there, and where the form ends."""
        if self._buffer.startswith(b"--"):
            if self._step == self._line:
                self._sink.end()
            self.ended = True
            return None
        end = self._buffer.find(b"\n", 0, _MOST_PADDING_BYTES) + 1
        whole = end or len(self._buffer) >= _MOST_PADDING_BYTES
        return bytes(self._buffer[: end or _MOST_PADDING_BYTES]) if whole else None

    def _headers(self) -> bool:
        blank = self._newline * 2
        at = 0 if self._buffer.startswith(self._newline) else self._buffer.find(blank, 0, MOST_HEADER_BYTES)
        if at < 0:
            if len(self._buffer) >= MOST_HEADER_BYTES:
                raise FormError(f"the headers of a part have more than {MOST_HEADER_BYTES} bytes")
            return False
        lines = _FOLD.sub(b" ", bytes(self._buffer[:at])).split(self._newline)
        # The second line end stays: without content it belongs to the next boundary.
        del self._buffer[: at and at + len(self._newline)]
        self._sink.begin(dict(_header(line) for line in lines if line))
        self._step = self._content_start
        return True

    def _content_start(self) -> bool:
        delimiter = self._newline + self._boundary
        if len(self._buffer) < len(delimiter):
            return False
        if not self._buffer.startswith(delimiter):
            del self._buffer[: len(self._newline)]
        self._step = self._content
        return True

    def _content(self) -> bool:
        delimiter = self._newline + self._boundary
        at = self._buffer.find(delimiter)
        self._pass_on(max(0, len(self._buffer) - len(delimiter)) if at < 0 else at)
        if at < 0:
            return False
        del self._buffer[: len(delimiter)]
        self._step = self._line
        return True

    def _pass_on(self, count: int) -> None:
        if count:
            with memoryview(self._buffer) as view, view[:count] as content:
                self._sink.content(content)
            del self._buffer[:count]


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise FormError("a line among the headers of a part is no header")
    return name.strip().lower(), value.strip()
