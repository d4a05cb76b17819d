"""Field count: bounds a message before it is parsed, since an empty field of two bytes takes hundreds in memory."""

from collections.abc import Iterator

from server.errors import InvalidRequest
from server.open_inference.tensors import MAX_VALUES

MAX_FIELDS = 1024
"""Of a request with everything in it; 64 files, a shape, parameters and names are a few hundred."""
MAX_SHAPE_BYTES = 80  # eight numbers of the longest form
MAX_CONTENTS_BYTES = 10 * MAX_VALUES  # likewise
NO_REQUEST = "The message is not a ModelInferRequest."

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
# Numbers of fields in open_inference.proto.
_REQUEST_PARAMETERS, _INPUTS, _OUTPUTS = 4, 5, 6
_SHAPE, _INPUT_PARAMETERS, _CONTENTS, _BYTES_CONTENTS = 3, 4, 5, 8
_OUTPUT_PARAMETERS = 2
_ENTRY_VALUE = 2

_Field = tuple[int, int, int]
"""The number of a field, and the start and end of its content."""


def check_fields(data: bytes) -> None:
    """Raise InvalidRequest for a ModelInferRequest with more fields or numbers than a valid one has."""
    _Counter(data).count_request()


class _Counter:
    """Walks through a request and raises where a bound is exceeded."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields_left = MAX_FIELDS
        self._bytes_left = MAX_CONTENTS_BYTES

    def count_request(self) -> None:
        for number, begin, end in self._fields(0, len(self._data)):
            if number == _INPUTS:
                self._count_input(begin, end)
            elif number == _OUTPUTS:
                self._count_output(begin, end)
            elif number == _REQUEST_PARAMETERS:
                self._count_parameter(begin, end)

    def _count_input(self, begin: int, end: int) -> None:
        for number, first, last in self._fields(begin, end):
            if number == _SHAPE and last - first > MAX_SHAPE_BYTES:
                raise InvalidRequest(f"A shape of {last - first} bytes is not one of four numbers, [N, 3, H, W].")
            if number == _CONTENTS:
                self._count_contents(first, last)
            elif number == _INPUT_PARAMETERS:
                self._count_parameter(first, last)

    def _count_output(self, begin: int, end: int) -> None:
        for number, first, last in self._fields(begin, end):
            if number == _OUTPUT_PARAMETERS:
                self._count_parameter(first, last)

    def _count_contents(self, begin: int, end: int) -> None:
        for number, first, last in self._fields(begin, end):
            if number == _BYTES_CONTENTS:
                continue
            self._bytes_left -= last - first
            if self._bytes_left < 0:
                raise InvalidRequest(
                    f"Typed contents hold at most {MAX_VALUES} numbers; send more as raw contents.",
                    max_values=MAX_VALUES,
                )

    def _count_parameter(self, begin: int, end: int) -> None:
        """Count an entry of a map and its value."""
        for number, first, last in self._fields(begin, end):
            if number == _ENTRY_VALUE:
                for _ in self._fields(first, last):
                    pass

    def _fields(self, begin: int, end: int) -> Iterator[_Field]:
        at = begin
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise InvalidRequest(f"The request has more than {MAX_FIELDS} fields.", max_fields=MAX_FIELDS)
            tag, at = self._varint(at, end)
            first, last = self._content(tag & 7, at, end)
            if last > end:
                raise InvalidRequest(NO_REQUEST)
            yield tag >> 3 if tag & 7 == _LENGTH else 0, first, last
            at = last

    def _content(self, wire_type: int, at: int, end: int) -> tuple[int, int]:
        if wire_type == _VARINT:
            return at, self._varint(at, end)[1]
        if wire_type == _LENGTH:
            length, first = self._varint(at, end)
            return first, first + length
        # The content of a group follows as fields of its own.
        return at, at + _FIXED_BYTES.get(wire_type, 0)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for place, byte in enumerate(self._data[at : min(end, at + _MAX_VARINT_BYTES)]):
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value, at + place + 1
        raise InvalidRequest(NO_REQUEST)
