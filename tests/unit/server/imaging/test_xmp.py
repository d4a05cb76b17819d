"""Tests of the XMP packet."""

import time
from xml.etree import ElementTree

import pytest

from server.imaging.xmp import without_claims

RDF = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
CAMERA = b"http://ns.google.com/photos/1.0/camera/"
CONTAINER = b"http://ns.google.com/photos/1.0/container/"
GAIN_MAP = b"http://ns.adobe.com/hdr-gain-map/1.0/"


def packet(attributes: bytes = b"", elements: bytes = b"") -> bytes:
    head = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    body = (
        b'<rdf:RDF xmlns:rdf="' + RDF + b'"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    )
    tail = b"<dc:title>a &gt; b</dc:title></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    return head + body + attributes + b">" + elements + tail


CLAIMS = {
    "attributes": (
        b' xmlns:GCamera="' + CAMERA + b'" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset = \'4000\'',
        b"",
    ),
    "attributes under another prefix": (b' xmlns:g="' + GAIN_MAP + b'" g:Version="1.0" g:GainMapMax="2.3"', b""),
    "elements": (
        b' xmlns:C="' + CONTAINER + b'" xmlns:Item="' + CONTAINER + b'item/"',
        b'<C:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><C:Item Item:Semantic="GainMap" Item:Length="12"/>'
        b"</rdf:li></rdf:Seq></C:Directory>",
    ),
    "an element that is declared where it stands": (
        b"",
        b'<m:MotionPhotoVersion xmlns:m="' + CAMERA + b'">1</m:MotionPhotoVersion>',
    ),
    "an extended packet": (b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="ABCDEF"', b""),
    "a depth map": (b' xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Mime="image/png"', b""),
    "a live photo of another maker": (b' xmlns:o="http://ns.oplus.com/camera/" o:OLivePhotoVersion="2"', b""),
    "Apple's gain map": (
        b"",
        b'<H:HDRGainMapVersion xmlns:H="http://ns.apple.com/HDRGainMap/1.0/">65536</H:HDRGainMapVersion>',
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_about_removed_parts_are_removed_and_the_rest_is_kept_byte_for_byte(name: str) -> None:
    attributes, elements = CLAIMS[name]
    found = without_claims(packet(attributes, elements))
    assert found is not None
    ElementTree.fromstring(found)  # noqa: S314 - our own
    if name == "a live photo of another maker":
        found = found.replace(b' xmlns:o="http://ns.oplus.com/camera/"', b"")
    if name == "an extended packet":
        found = found.replace(b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/"', b"")
    assert found.replace(b' xmlns:GCamera="' + CAMERA + b'"', b"") == packet()


def test_other_properties_of_the_same_camera_are_kept() -> None:
    declared = b' xmlns:GCamera="' + CAMERA + b'"'
    claim, note = b' GCamera:MotionPhoto="1"', b' GCamera:BurstID="7"'
    assert without_claims(packet(declared + claim + note)) == packet(declared + note)


@pytest.mark.parametrize("sound", [None, b"", packet(), packet(b' dc:rights="me"'), b"no packet at all", b"<x"])
def test_a_packet_without_claims_is_not_parsed(sound: bytes | None) -> None:
    assert without_claims(sound) == (sound or None)


CLAIMING = packet(*CLAIMS["attributes"])


@pytest.mark.parametrize(
    "broken",
    [
        CLAIMING[:-40],
        CLAIMING.replace(b"</dc:title>", b""),
        CLAIMING.decode().encode("utf-16"),
        b'<?xml version="1.0" encoding="iso-8859-1"?>' + CLAIMING,
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + CLAIMING,
        CLAIMING.replace(b"<dc:title>", b"<dc:x/>" * 30_000 + b"<dc:title>"),
        packet(CLAIMS["attributes"][0], b"<dc:a>" * 200 + b"</dc:a>" * 200),
        packet(CLAIMS["attributes"][0] + b"".join(b" xmlns:a%d='x'" % number for number in range(2000))),
    ],
    ids=[
        "cut off",
        "unbalanced",
        "UTF-16",
        "another encoding",
        "a document type",
        "endless elements",
        "endless levels",
        "endless prefixes",
    ],
)
def test_a_packet_with_claims_that_cannot_be_parsed_is_dropped(broken: bytes) -> None:
    assert without_claims(broken) is None


def test_zeros_behind_the_packet_do_not_matter() -> None:
    assert without_claims(CLAIMING + bytes(100)) is not None


def test_the_time_is_bounded_by_the_size() -> None:
    began = time.process_time()
    for hostile in (
        CLAIMING.replace(b">a &gt;", b">" + b"<" * 10**6),
        packet(CLAIMS["attributes"][0] + b" " * 10**6 + b"=" * 10**5),
        packet(CLAIMS["attributes"][0] + b"".join(b' GCamera:MotionPhoto%d="1"' % number for number in range(100_000))),
        packet(b" xmlns:GCamera='" + CAMERA + b"'", b"".join(b"<dc:a xmlns:a%d='x'/>" % n for n in range(15_000))),
    ):
        without_claims(hostile)
    assert time.process_time() - began < 5
