"""Tensors: images in the forms of the protocol, in requests and answers."""

import base64
import binascii
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np

from server.errors import InvalidRequest
from server.open_inference.models import INPUT, MAX_IMAGES, Datatype, shown
from server.open_inference.nesting import flattened
from server.restore.frame import Frames

MAX_VALUES = 2**19
"""Most values of a tensor not sent as bytes: a number as text or as a field costs a hundred times as much."""

Images = Frames | list[bytes]
"""The pixels of a tensor, (N, 3, H, W), or N image files."""

_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor
_ONE, _WHITE = 1.0, 255
_OUT_OF_RANGE = f"{INPUT} has values out of 0..1 or that are no numbers; divide bytes by 255."
_SHOWN_DIMS = 8
# Characters of base64, in groups of four: between steps other threads have their turn.
_STEP = 2**20
_VALUES: dict[Datatype, tuple[set[type], str]] = {
    Datatype.FP32: ({int, float}, "numbers"),
    Datatype.UINT8: ({int}, "whole numbers"),
    Datatype.BYTES: ({str}, "strings of base64"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Datatype and shape of a valid input: N images, with their size unless they are files."""

    datatype: Datatype
    dims: tuple[int, ...]

    @classmethod
    def of(cls, name: str, datatype: str, dims: Sequence[int]) -> "Shape":
        """Check the datatype and shape that a request states; raises InvalidRequest."""
        if datatype not in list(Datatype):
            taken = ", ".join(Datatype)
            raise InvalidRequest(f"{name} is {shown(datatype)}; taken are {taken}.", datatypes=list(Datatype))
        kind = Datatype(datatype)
        is_file = kind is Datatype.BYTES
        fits = len(dims) in (1, 2) and dims[1:] in ([], [1]) if is_file else len(dims) == 4 and dims[1] == 3
        if not fits or min(dims) < 1:
            wanted = "[N] or [N, 1]" if is_file else "[N, 3, H, W]"
            raise InvalidRequest(f"{name} has the shape {list(dims[:_SHOWN_DIMS])}; of {datatype} it is {wanted}.")
        if dims[0] > MAX_IMAGES:
            raise InvalidRequest(
                f"{name} holds {dims[0]} images; at most {MAX_IMAGES} are taken.", max_images=MAX_IMAGES
            )
        return cls(kind, tuple(dims))

    @property
    def count(self) -> int:
        """Number of images."""
        return self.dims[0]

    @property
    def values(self) -> int:
        """Number of numbers, or of files."""
        return int(np.prod(self.dims, dtype=object))

    @property
    def byte_size(self) -> int | None:
        """Size of the raw form; None for files, which may have any size."""
        if self.datatype is Datatype.BYTES:
            return None
        return self.values * (4 if self.datatype is Datatype.FP32 else 1)

    def check_byte_size(self, size: int) -> None:
        """Raise InvalidRequest if raw data has a different size."""
        if self.byte_size not in (None, size):
            wanted = f"{self.datatype} {list(self.dims)} has {self.byte_size} bytes"
            raise InvalidRequest(f"{INPUT} comes with {size} bytes; {wanted}.")


def from_raw(shape: Shape, raw: bytes | memoryview) -> Images:
    """Read the raw form of a tensor: a view of the bytes, checked. Raises InvalidRequest."""
    shape.check_byte_size(len(raw))
    if shape.datatype is Datatype.BYTES:
        # Reading one element too many shows that there are too many: an empty one has only 4 bytes.
        return from_elements(shape, list(islice(_elements(memoryview(raw)), shape.count + 1)))
    kind = "<f4" if shape.datatype is Datatype.FP32 else "u1"
    return _checked(np.frombuffer(raw, kind).reshape(shape.dims))


def from_values(shape: Shape, values: Any) -> Images:
    """Read the values of JSON: numbers, or files as base64, flat or nested as the shape is. Raises InvalidRequest."""
    if shape.values > MAX_VALUES:
        raise InvalidRequest(
            f"{INPUT} has {shape.values} numbers; one by one at most {MAX_VALUES} are taken: send it as binary data.",
            max_values=MAX_VALUES,
        )
    flat = flattened(values, shape.dims)
    kinds, wanted = _VALUES[shape.datatype]
    if not set(map(type, flat)) <= kinds:  # True is an int to Python, and no number here
        raise InvalidRequest(f"{INPUT} is {shape.datatype} and must hold {wanted} alone.")
    if shape.datatype is Datatype.BYTES:
        return [_file(text) for text in flat]
    if shape.datatype is Datatype.UINT8:
        if min(flat) < 0 or max(flat) > _WHITE:
            raise InvalidRequest(f"{INPUT} has values out of 0..{_WHITE}, which UINT8 cannot hold.")
        return np.array(flat, np.uint8).reshape(shape.dims)
    try:
        return _checked(np.array(flat, np.float64).astype(np.float32).reshape(shape.dims))
    except OverflowError:  # a whole number of hundreds of digits
        raise InvalidRequest(_OUT_OF_RANGE) from None


def from_elements(shape: Shape, files: list[bytes]) -> list[bytes]:
    """Check that there are as many files as the shape says; raises InvalidRequest."""
    if len(files) != shape.count:
        raise InvalidRequest(f"{INPUT} has {len(files)} elements; {list(shape.dims)} has {shape.count}.")
    return files


def raw_of(images: Sequence[Frames] | Sequence[bytes]) -> Iterator[bytes]:
    """Write images, each (3, H, W) or a file, as a raw tensor, in pieces."""
    for image in images:
        if isinstance(image, bytes):
            yield _LENGTH.pack(len(image))
            yield image
        else:
            yield image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes()


def raw_size(images: Sequence[Frames] | Sequence[bytes]) -> int:
    """Return the number of bytes that `raw_of` writes."""
    return sum(_LENGTH.size + len(image) if isinstance(image, bytes) else image.nbytes for image in images)


def _checked(pixels: Frames) -> Frames:
    # A comparison with NaN is false. Bytes that were cast and not divided are the most common mistake.
    if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and pixels.max() <= _ONE):
        raise InvalidRequest(_OUT_OF_RANGE)
    return pixels


def _elements(raw: memoryview) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        begin = at + _LENGTH.size
        if begin > len(raw) or (at := begin + _LENGTH.unpack_from(raw, begin - _LENGTH.size)[0]) > len(raw):
            raise InvalidRequest(f"{INPUT} ends within an element: each has its length in 4 bytes before it.")
        yield bytes(raw[begin:at])


def _file(text: str) -> bytes:
    block = BytesIO()
    try:
        if text.find("=", 0, -2) >= 0:  # padding stands at the end alone, which a step by itself does not show
            raise ValueError
        for at in range(0, len(text), _STEP):
            block.write(base64.b64decode(text[at : at + _STEP], validate=True))
        return block.getvalue()
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{INPUT} holds files as strings of base64, or as binary data.") from None
