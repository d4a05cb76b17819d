"""Codec work: what a codec process does with the image in a segment of shared memory, and what lies where in it."""

import math
import pickle
import traceback
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np

from server.backends.base import Aux, Pixels
from server.errors import PromptIRServeError
from server.formats import codec
from server.formats.base import Samples
from server.formats.codec import Image
from server.formats.header import Header
from server.formats.output import OutputFormat
from server.imaging import tiling
from server.imaging.metadata import Metadata
from server.imaging.tiling import Grid
from server.restore.allocator import limit_retained_memory
from server.restore.codec_process import Work
from server.restore.options import RestoreOptions
from server.restore.photo import Photo
from server.restore.tiles import RestoredFile, write_photo
from server.shared_memory import Attachments, Bytes

_FLOAT_BYTES = 4
_VECTOR_BYTES = 64
# The largest image of one run takes about this in a decoder. To return it after each image costs more than to decode.
_RETAINED_BYTES = 64 * 2**20
_attachments = Attachments()


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a segment: the samples of the image, then the upload, the tile or the file, in turn."""

    samples_bytes: int
    shape: tuple[int, int, int]
    """(3, padded_height, padded_width) of the tile, float32."""

    @property
    def tile_bytes(self) -> int:
        """The bytes of the tile."""
        return math.prod(self.shape) * _FLOAT_BYTES

    @classmethod
    def of(cls, header: Header, grid: Grid) -> Self:
        """Return the layout of an image of one run."""
        samples_bytes = -(-header.decoded_bytes // _VECTOR_BYTES) * _VECTOR_BYTES
        return cls(samples_bytes, (3, *grid.tile_shape))

    def bytes_for(self, upload_bytes: int) -> int:
        """Return the bytes of a segment for an upload."""
        return self.samples_bytes + max(self.tile_bytes, upload_bytes)

    def tile(self, data: Bytes) -> Pixels:
        """Return the tile as a view."""
        return data[self.samples_bytes : self.samples_bytes + self.tile_bytes].view(np.float32).reshape(self.shape)


class Plan(NamedTuple):
    """How an image runs; the same for all images of one size and with the same options."""

    layout: Layout
    grid: Grid
    options: RestoreOptions


class Ending(NamedTuple):
    """How the answer is written, and the names of what the network may have found."""

    output: OutputFormat
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The image in a segment: the types of its planes, each (H, W), and what else a response keeps."""

    dtypes: tuple[str, ...]
    has_alpha: bool
    """Whether the last plane is the alpha."""
    height: int
    width: int
    metadata: Metadata

    def image(self, data: Bytes) -> Image:
        """Return the image as views."""
        planes: list[Samples] = []
        start = 0
        for dtype in self.dtypes:
            size = self.height * self.width * np.dtype(dtype).itemsize
            planes.append(data[start : start + size].view(dtype).reshape(self.height, self.width))
            start += size
        alpha = planes.pop() if self.has_alpha else None
        return Image(tuple(planes), alpha, self.metadata)


def prepare() -> None:
    """Configure a codec process: silent codecs, and an allocator that keeps the memory for the next image."""
    limit_retained_memory(_RETAINED_BYTES // 2, _RETAINED_BYTES)
    codec.silence_decoder_messages()


@lru_cache
def packed(value: Plan | Ending) -> bytes:
    """Pickle a value that many images have in common."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


@lru_cache
def unpacked(data: bytes) -> Any:
    """Return what was pickled by this server."""
    return pickle.loads(data)  # noqa: S301 - our own


def decode_into(name: str, upload_bytes: int, plan: bytes, header: Header) -> bytes | None:
    """Decode the upload in a segment, and leave the samples and the tile there; runs in a codec process.

    Returns the pickled `Decoded`, None if the samples take more than the header said.
    """
    decoded: Decoded | None = _with_segment(name, _decode, upload_bytes, unpacked(plan), header)
    return None if decoded is None else pickle.dumps(decoded, pickle.HIGHEST_PROTOCOL)


def encode_from(
    name: str, plan: bytes, ending: bytes, decoded: bytes, aux: Aux | None
) -> tuple[tuple[Any, Any], bytes | int]:
    """Encode the photo in a segment, and leave the file there if it has room; runs in a codec process.

    Returns report and degradations, and the file or its size.
    """
    parts = (unpacked(plan), pickle.loads(decoded), aux, unpacked(ending))  # noqa: S301 - our own
    written: tuple[tuple[Any, Any], bytes | int] = _with_segment(name, _encode, *parts)
    return written


def _with_segment(name: str, work: Work, *arguments: Any) -> Any:
    try:
        return work(_attachments.view(name), *arguments)
    except Exception as error:
        _without_frames(error)
        raise


def _without_frames(error: BaseException) -> None:
    # The frames of a traceback hold views of the segment, which then cannot be closed.
    if not isinstance(error, PromptIRServeError):
        error.add_note(traceback.format_exc())
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__


def _decode(data: Bytes, upload_bytes: int, plan: Plan, header: Header) -> Decoded | None:
    layout, grid, options = plan
    upload = data[layout.samples_bytes : layout.samples_bytes + upload_bytes].tobytes()
    image = codec.decode(upload, header, options.colours)
    planes = _layers(image)
    if sum(plane.nbytes for plane in planes) > layout.samples_bytes:
        return None
    height, width = planes[0].shape
    dtypes = tuple(plane.dtype.str for plane in planes)
    decoded = Decoded(dtypes, image.alpha is not None, height, width, image.metadata)
    for shared, own in zip(_layers(decoded.image(data)), planes, strict=True):
        np.copyto(shared, own)
    (tile,) = grid
    if image.planes[0].shape == layout.shape[1:]:
        image.crop(into=layout.tile(data))
    else:
        np.copyto(layout.tile(data), tiling.pad(image.crop(tile.rows, tile.columns), tile))
    return decoded


def _layers(image: Image) -> list[Samples]:
    return [*image.planes] if image.alpha is None else [*image.planes, image.alpha]


def _encode(
    data: Bytes, plan: Plan, decoded: Decoded, aux: Aux | None, ending: Ending
) -> tuple[tuple[Any, Any], bytes | int]:
    restored = finish(data, plan, decoded, plan.layout.tile(data), aux, ending)
    file, start = restored.data, plan.layout.samples_bytes
    written = restored.report, restored.degradations
    if start + len(file) > len(data):
        return written, file
    np.copyto(data[start : start + len(file)], np.frombuffer(file, np.uint8))
    return written, len(file)


def finish(
    data: Bytes, plan: Plan, decoded: Decoded, restored: Pixels, aux: Aux | None, ending: Ending
) -> RestoredFile:
    """Put a restored tile (3, padded_height, padded_width) into the photo in a segment, and write its file."""
    photo, (tile,) = Photo(decoded.image(data), plan.grid, plan.options), plan.grid
    before = restored if plan.options.strength == 1 else photo.cut(tile)
    photo.add(tile, before, restored, aux)
    return write_photo(photo, *ending)
