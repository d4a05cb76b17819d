"""Tests of the codec: colour profiles, EXIF and XMP."""

import io
import struct
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from PIL import ImageCms
from round_trips import LIMITS, QUALITY, decode, saved

from server.formats import codec
from server.formats.codec import OutputFormat
from server.formats.header import probe
from server.formats.output import ColourPolicy, MetadataPolicy, OutputOptions
from server.formats.png.writer import png_chunk, write_png
from server.imaging.metadata import Metadata

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
    """Return a profile like sRGB with more saturated red and green, so that a conversion is visible."""
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
def test_profile_exif_and_xmp_survive_in_every_format(output: OutputFormat, encode: Encode) -> None:
    restored = answered(encode("JPEG", exif=NOTES, xmp=XMP, icc_profile=SRGB), output)
    exif = restored.getexif()
    assert restored.info["icc_profile"] == SRGB
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("Camera", 1)
    assert exif.get_ifd(0x8825)[1] == "N"
    assert restored.info["xmp"] == XMP


@pytest.mark.parametrize("output", list(OutputFormat))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_stripping_metadata_leaves_only_the_profile(kind: str, output: OutputFormat, encode: Encode) -> None:
    stripped = OutputOptions(metadata=MetadataPolicy.STRIP)
    data = encode(kind, exif=NOTES, xmp=XMP, icc_profile=SRGB)
    image = decode(data)
    file = codec.encode(image, image.planes, output, QUALITY, stripped)
    assert PIL.Image.open(io.BytesIO(file)).info["icc_profile"] == SRGB
    assert b"Camera" not in file
    assert b"xmpmeta" not in file
    assert 0x8825 not in PIL.Image.open(io.BytesIO(file)).getexif()


def test_colours_of_a_wide_profile_are_converted_to_srgb_on_request(encode: Encode) -> None:
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
    deep = write_png([np.zeros((4, 4), np.uint16)] * 3, Metadata(icc_profile=WIDE))
    assert codec.decode(deep, probe(deep, LIMITS), ColourPolicy.SRGB).metadata.icc_profile == WIDE


def test_a_malformed_profile_is_left_out_and_the_image_is_read(encode: Encode) -> None:
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
def test_no_response_claims_parts_that_it_does_not_contain(kind: str, output: OutputFormat, encode: Encode) -> None:
    data = encode(kind, xmp=CLAIMING)
    restored = answered(data, output)
    packet = restored.info.get("xmp") or restored.info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    assert b"xmpmeta" in packet
    for claim in (b"MotionPhoto", b"Version", b"hdr-gain-map"):
        assert claim not in packet


def test_the_header_of_a_jpeg_names_the_parts_besides_the_picture(encode: Encode) -> None:
    assert probe(encode("JPEG"), LIMITS).parts == frozenset()
    assert probe(encode("JPEG", xmp=CLAIMING), LIMITS).parts == {"gain-map", "motion-video"}
    plain = encode("JPEG")
    iso = b"\xff\xe2\0\x22urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"
    assert probe(plain[:2] + iso + plain[2:], LIMITS).parts == {"gain-map"}


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    return data[:33] + b"".join(png_chunk(kind, body) for kind, body in chunks) + data[33:]


LINEAR = (b"gAMA", (100_000).to_bytes(4, "big"))
P3 = (b"cICP", bytes((12, 13, 0, 1)))


def test_a_profile_is_not_srgb_because_of_its_name(encode: Encode) -> None:
    named = bytearray(WIDE)
    description = named.index(b"w\0i\0d\0e\0")
    named[description : description + 8] = b"s\0R\0G\0B\0"
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(bytes(named))))
    data, same = encode("PNG", icc_profile=bytes(named)), encode("PNG", icc_profile=WIDE)
    converted, expected = (codec.decode(one, probe(one, LIMITS), ColourPolicy.SRGB) for one in (data, same))
    np.testing.assert_array_equal(converted.crop(), expected.crop())
    assert np.abs(converted.crop() - decode(data).crop()).max() > 0.02


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("padding", [b"\0", bytes(3), b"padding that is long"])
def test_a_padded_profile_is_cut_to_its_size_and_used(kind: str, padding: bytes, encode: Encode) -> None:
    data = encode(kind, icc_profile=WIDE + padding)
    assert decode(data).metadata.icc_profile == WIDE
    converted = codec.decode(data, probe(data, LIMITS), ColourPolicy.SRGB)
    assert np.abs(converted.crop() - decode(data).crop()).max() > 0.02
    assert answered(data, OutputFormat.JPEG).info["icc_profile"] == WIDE


@pytest.mark.parametrize("chunk", [LINEAR, P3])
@pytest.mark.parametrize(
    ("mode", "output"),
    [
        *((mode, output) for mode in ("RGB", "RGBA") for output in (OutputFormat.JPEG, OutputFormat.WEBP)),
        *((mode, OutputFormat.TIFF) for mode in ("L", "LA", "RGB", "RGBA")),
        ("L", OutputFormat.JPEG),
    ],
)
def test_colour_chunks_of_png_become_a_profile_in_other_formats(
    output: OutputFormat, mode: str, chunk: tuple[bytes, bytes], encode: Encode
) -> None:
    data = with_chunks(encode("PNG", mode), chunk)
    plain, restored = answered(encode("PNG", mode), output), answered(data, output)
    assert "icc_profile" not in plain.info
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(plain))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(restored.info["icc_profile"]))
    assert profile.profile.xcolor_space.strip() == ("GRAY" if mode in ("L", "LA") else "RGB")


def test_colour_chunks_are_preserved_in_png(encode: Encode) -> None:
    image = decode(with_chunks(encode("PNG"), LINEAR))
    file = codec.encode(image, image.planes, OutputFormat.PNG, QUALITY)
    assert png_chunk(*LINEAR) in file
    assert b"iCCP" not in file


def test_colours_described_by_chunks_are_converted_to_srgb_on_request() -> None:
    flat = write_png([np.full((4, 4), 55, np.uint8)] * 3)
    data = with_chunks(flat, LINEAR)
    converted = codec.decode(data, probe(data, LIMITS), ColourPolicy.SRGB)
    assert {int(plane[0, 0]) for plane in converted.planes} <= {127, 128, 129}
    assert converted.metadata == Metadata()
    grey = with_chunks(write_png([np.full((4, 4), 55, np.uint8)]), LINEAR)
    converted = codec.decode(grey, probe(grey, LIMITS), ColourPolicy.SRGB)
    assert (len(converted.planes), abs(int(converted.planes[0][0, 0]) - 128) <= 1) == (1, True)


def test_linear_grey_becomes_srgb_in_webp_which_has_no_grey() -> None:
    data = with_chunks(write_png([np.full((16, 16), 55, np.uint8)]), LINEAR)
    shown = answered(data, OutputFormat.WEBP)
    assert abs(int(np.asarray(shown)[8, 8, 0]) - 128) <= 2
    assert "icc_profile" not in shown.info
