"""Tests of the codec: orientations in EXIF, in XMP and in a TIFF's own tag."""

import io
import struct
from collections.abc import Callable

import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from round_trips import LIMITS, QUALITY, decode
from tiffs import grey_page, tiff_of

from server.formats import codec
from server.formats.codec import OutputFormat
from server.formats.header import probe
from server.formats.output import MetadataPolicy, OutputOptions
from server.imaging import exif, orientation
from server.imaging.tiff_directory import Entry, read_first_strictly, write

Encode = Callable[..., bytes]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
GEOGRAPHIC = {33550: (12, 24), 33922: (12, 48), 34735: (3, 16), 34736: (12, 8), 34737: (2, 8), 42113: (2, 2)}


@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.TIFF])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_only_in_xmp_is_applied_and_reset(kind: str, output: OutputFormat, encode: Encode) -> None:
    options = {"tiffinfo": {700: XMP}} if kind == "TIFF" else {"xmp": XMP}
    if kind == "PNG":
        notes = PngInfo()
        notes.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": notes}
    data = encode(kind, **options)
    header = probe(data, LIMITS)
    assert (header.width, header.height) == (24, 40)
    image = decode(data)
    answer = PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, output, QUALITY)))
    assert answer.size == (24, 40)
    assert answer.info["xmp"] == XMP.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_applied_despite_an_invalid_entry_beside_it(kind: str, encode: Encode) -> None:
    bad = struct.pack("<HHII", 0x0131, 2, 40, 99_999)
    records = struct.pack("<HHI4s", 0x010F, 2, 4, b"Cam\0") + struct.pack("<HHII", 0x0112, 3, 1, 6) + bad
    block = b"II*\0\x08\0\0\0\x03\0" + records + bytes(4)
    data = encode(kind, exif=exif.PREFIX + block if kind == "JPEG" else block)
    image = decode(data)
    assert image.planes[0].shape == (40, 24)
    for output in OutputFormat:
        notes = PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, output, QUALITY))).getexif()
        assert (notes[0x010F], notes.get(0x0112, 1)) == ("Cam", 1)


def georeferenced(turned_by: int) -> bytes:
    data = tiff_of(grey_page(16, 7, t274=turned_by))
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    entries = [
        Entry(*struct.unpack_from("<HHI", data, start), data[start + 8 : start + 12])
        for start in range(at + 2, at + 2 + 12 * count, 12)
    ]
    sizes = {2: 1, 3: 2, 12: 8}
    entries += [Entry(tag, kind, size // sizes[kind], bytes(range(size))) for tag, (kind, size) in GEOGRAPHIC.items()]
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + write("<", entries, len(data))


def test_the_position_on_earth_survives_from_tiff_to_tiff() -> None:
    image = decode(georeferenced(1))
    answer = codec.encode(image, image.planes, OutputFormat.TIFF, QUALITY)
    found = orientation_free(answer)
    for tag, (_, size) in GEOGRAPHIC.items():
        assert found[tag] == bytes(range(size))


def test_the_position_on_earth_is_left_out_if_the_picture_was_turned_or_stripped() -> None:
    turned = decode(georeferenced(6))
    assert not GEOGRAPHIC.keys() & orientation_free(codec.encode(turned, turned.planes, OutputFormat.TIFF, 90)).keys()
    image = decode(georeferenced(1))
    stripped = OutputOptions(metadata=MetadataPolicy.STRIP)
    answer = codec.encode(image, image.planes, OutputFormat.TIFF, QUALITY, stripped)
    assert not GEOGRAPHIC.keys() & orientation_free(answer).keys()


def orientation_free(data: bytes) -> dict[int, bytes]:
    """Return the raw values of the first directory, and check that its orientation is upright."""
    directory = read_first_strictly(data)
    assert orientation.of_directory(directory) in (None, 1)
    return {tag: entry.raw for tag, entry in directory.entries.items()}
