"""TIFF pages: locating the picture among thumbnails, pyramid levels, masks and raw sensor data."""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from server.errors import UnsupportedImage
from server.formats.refused import camera_raw_error
from server.formats.tiff import tags
from server.imaging import tiff_directory
from server.imaging.tiff_directory import BrokenDirectoryError, Directory

# Bits of NewSubfileType (TIFF 6.0, section 8): a smaller copy of another picture, and a mask.
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
# A pyramid of 16 384 pixels a side has 15 directories, and 15 more for masks.
_MAX_DIRECTORIES = 64

_SENSOR_VALUES = frozenset({32803, 34892})  # a colour filter array, and linear raw (DNG 1.7, chapter 4)
_SENSOR_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65535})  # Sony, Epson, Samsung, Nikon, Pentax
_KINDS = {b"NIKON": "Nikon NEF", b"SONY": "Sony ARW", b"PENTAX": "Pentax PEF", b"RICOH": "Pentax PEF"}
_KINDS |= {b"CANON": "Canon CR2", b"SAMSUNG": "Samsung SRW", b"HASSELBLAD": "Hasselblad 3FR", b"KODAK": "Kodak DCR"}


class Pages(NamedTuple):
    """The picture's directory, and the number of pages without smaller copies and masks."""

    picture: Directory
    number: int


def find(data: bytes) -> Pages:
    """Find the picture; raises BrokenDirectoryError, and UnsupportedImage for camera raw.

    Smaller copies (pyramid levels, thumbnails) and masks do not count as pages. If the main sequence has no other
    directories, their subdirectories are searched.
    """
    sequence = list(_sequence(data))
    below = [list(_below(data, directory)) for directory in sequence[:_MAX_DIRECTORIES]]
    for directory in (*sequence, *(one for several in below for one in several)):
        _refuse_sensor_values(directory, sequence[0])
    whole = [directory for directory in sequence if _is_whole_picture(directory)]
    if not whole:
        whole = [one for several in below for one in several if _is_whole_picture(one)][:1]
    if not whole and tags.SUB_DIRECTORIES in sequence[0].entries and not below[0]:
        raise BrokenDirectoryError("it contains only a smaller copy; its picture is outside the data")
    return Pages(whole[0], len(whole)) if whole else Pages(sequence[0], 1)


def _sequence(data: bytes) -> Iterator[Directory]:
    directory = tiff_directory.read_first(data)
    yield directory
    seen = {directory.at}
    with suppress(BrokenDirectoryError):  # a directory that cannot be read is not a page
        while directory.next_offset and directory.next_offset not in seen:
            if len(seen) == _MAX_DIRECTORIES:
                raise UnsupportedImage(
                    f"The TIFF has more than {_MAX_DIRECTORIES} pages and copies; only one is accepted."
                )
            directory = tiff_directory.read(data, directory.next_offset, directory.order)
            seen.add(directory.at)
            yield directory


def _below(data: bytes, directory: Directory) -> Iterator[Directory]:
    for offset in directory.integers(tags.SUB_DIRECTORIES, _MAX_DIRECTORIES):
        with suppress(BrokenDirectoryError):
            yield tiff_directory.read(data, offset, directory.order)


def _is_whole_picture(directory: Directory) -> bool:
    if tags.SUBFILE in directory.entries:
        return not directory.integer(tags.SUBFILE, 0) & (_REDUCED | _MASK)
    return directory.integer(tags.OLD_SUBFILE, 0) != _OLD_REDUCED


def _refuse_sensor_values(directory: Directory, first: Directory) -> None:
    if tags.DNG_VERSION in directory.entries:
        raise camera_raw_error("DNG")
    is_raw = directory.integer(tags.PHOTOMETRIC, 0) in _SENSOR_VALUES
    if is_raw or directory.integer(tags.COMPRESSION, 1) in _SENSOR_COMPRESSIONS:
        make = first.entries[tags.MAKE].raw.upper() if tags.MAKE in first.entries else b""
        raise camera_raw_error(next((kind for start, kind in _KINDS.items() if make.startswith(start)), ""))
