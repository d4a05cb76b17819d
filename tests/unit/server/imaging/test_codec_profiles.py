"""Tests of the codec: colour profiles and notes."""

import io
import struct
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from PIL import ImageCms
from round_trips import LIMITS, QUALITY, decode, saved

from server.imaging import codec
from server.imaging.codec import OutputFormat
from server.imaging.header import probe
from server.imaging.metadata import Metadata
from server.imaging.output import ColourPolicy, MetadataPolicy, OutputOptions
from server.imaging.png_writer import write_png

Encode = Callable[..., bytes]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a/></x:xmpmeta>"


def notes() -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x010F] = "Camera"
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def wide_profile() -> bytes:
    """sRGB with the colours of red and green exchanged for others further out, so that a conversion shows."""
    profile = bytearray(SRGB)
    for tag, xyz in ((b"rXYZ", (0.6097, 0.3111, 0.0195)), (b"gXYZ", (0.2053, 0.6257, 0.0609))):
        at = profile.index(tag)
        start = int.from_bytes(profile[at + 4 : at + 8], "big") + 8
        profile[start : start + 12] = struct.pack(">3i", *(round(value * 65536) for value in xyz))
    description = profile.index(b"s\0R\0G\0B")
    profile[description : description + 8] = b"w\0i\0d\0e\0"
    return bytes(profile)


NOTES = notes()
WIDE = wide_profile()


def answered(data: bytes, output: OutputFormat, options: OutputOptions | None = None) -> PIL.Image.Image:
    image = decode(data)
    restored = PIL.Image.open(
        io.BytesIO(codec.encode(image, image.planes, output, QUALITY, options or OutputOptions()))
    )
    restored.load()
    return restored


def test_a_profile_of_another_colour_space_is_not_embedded(encode: Encode) -> None:
    cmyk = SRGB[:16] + b"CMYK" + SRGB[20:]
    assert decode(encode("JPEG", "CMYK", icc_profile=cmyk)).metadata.icc_profile is None
    assert decode(encode("JPEG", "L", icc_profile=SRGB)).metadata.icc_profile is None


@pytest.mark.parametrize("output", list(OutputFormat))
def test_profile_and_notes_survive_in_every_format(output: OutputFormat, encode: Encode) -> None:
    restored = answered(encode("JPEG", exif=NOTES, xmp=XMP, icc_profile=SRGB), output)
    exif = restored.getexif()
    assert restored.info["icc_profile"] == SRGB
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("Camera", 1)
    assert exif.get_ifd(0x8825)[1] == "N"
    assert restored.info["xmp"] == XMP


@pytest.mark.parametrize("output", list(OutputFormat))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_stripped_of_notes_only_the_profile_remains(kind: str, output: OutputFormat, encode: Encode) -> None:
    stripped = OutputOptions(metadata=MetadataPolicy.STRIP)
    data = encode(kind, exif=NOTES, xmp=XMP, icc_profile=SRGB)
    image = decode(data)
    file = codec.encode(image, image.planes, output, QUALITY, stripped)
    assert PIL.Image.open(io.BytesIO(file)).info["icc_profile"] == SRGB
    assert b"Camera" not in file
    assert b"xmpmeta" not in file
    assert 0x8825 not in PIL.Image.open(io.BytesIO(file)).getexif()


def test_colours_of_a_wide_profile_are_converted_to_srgb_where_asked(encode: Encode) -> None:
    data = encode("PNG", icc_profile=WIDE)
    kept, converted = decode(data), codec.decode(data, probe(data, LIMITS), ColourPolicy.SRGB)
    assert kept.metadata.icc_profile == WIDE
    assert converted.metadata.icc_profile is None
    source = PIL.Image.open(io.BytesIO(data))
    profiles = ImageCms.ImageCmsProfile(io.BytesIO(WIDE)), ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(source, *profiles, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB")
    difference = np.rint(converted.crop() * 255) - np.asarray(expected).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 1
    assert np.abs(converted.crop() - kept.crop()).max() > 0.02


def test_an_srgb_profile_converts_to_itself_and_sixteen_bits_keep_their_profile() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    data = saved(PIL.Image.fromarray(noise), "PNG", icc_profile=SRGB)
    converted = codec.decode(data, probe(data, LIMITS), ColourPolicy.SRGB)
    assert converted.metadata.icc_profile is None
    np.testing.assert_array_equal(np.rint(converted.crop() * 255), noise.transpose(2, 0, 1))
    deep = write_png(np.zeros((4, 4, 3), np.uint16), Metadata(icc_profile=WIDE))
    assert codec.decode(deep, probe(deep, LIMITS), ColourPolicy.SRGB).metadata.icc_profile == WIDE


def test_a_broken_profile_costs_itself_and_not_the_image(encode: Encode) -> None:
    data = encode("PNG", icc_profile=WIDE[:-20])
    for policy in ColourPolicy:
        assert codec.decode(data, probe(data, LIMITS), policy).metadata.icc_profile is None
    hollow = WIDE[:128] + bytes(len(WIDE) - 128)
    data = encode("PNG", icc_profile=hollow)
    assert codec.decode(data, probe(data, LIMITS), ColourPolicy.SRGB).metadata.icc_profile is None


CLAIMING = XMP.replace(
    b"<a/>",
    b"<a xmlns:h='http://ns.adobe.com/hdr-gain-map/1.0/' xmlns:c='http://ns.google.com/photos/1.0/camera/' "
    b"h:Version='1.0' c:MotionPhoto='1'/>",
)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("output", list(OutputFormat))
def test_no_answer_claims_to_have_parts_that_it_has_not(kind: str, output: OutputFormat, encode: Encode) -> None:
    data = encode(kind, xmp=CLAIMING)
    restored = answered(data, output)
    packet = restored.info.get("xmp") or restored.info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    assert b"xmpmeta" in packet
    for claim in (b"MotionPhoto", b"Version", b"hdr-gain-map"):
        assert claim not in packet


def test_the_header_of_a_jpeg_names_what_stands_beside_the_picture(encode: Encode) -> None:
    assert probe(encode("JPEG"), LIMITS).parts == frozenset()
    assert probe(encode("JPEG", xmp=CLAIMING), LIMITS).parts == {"gain-map", "motion-video"}
    plain = encode("JPEG")
    iso = b"\xff\xe2\0\x22urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"
    assert probe(plain[:2] + iso + plain[2:], LIMITS).parts == {"gain-map"}
