"""XMP: detection and removal of claims about parts that a response leaves out (XMP, part 1, section 7)."""

import re
from xml.parsers import expat

# Google's motion photos and their containers, and gain maps of Adobe and Apple.
_NAMESPACES = (
    b"http://ns.google.com/photos/1.0/container/",
    b"http://ns.google.com/photos/1.0/image/",
    b"http://ns.google.com/photos/1.0/depthmap/",
    b"http://ns.google.com/photos/1.0/audio/",
    b"http://ns.google.com/photos/dd/1.0/",
    b"http://ns.adobe.com/hdr-gain-map/1.0/",
    b"http://ns.apple.com/HDRGainMap/1.0/",
)
_NAMES = re.compile(rb"MotionPhoto|MicroVideo|OLivePhoto|HasExtendedXMP")
_MENTIONS = re.compile(b"|".join((*map(re.escape, _NAMESPACES), _NAMES.pattern)))
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_TAG = re.compile(rb"<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*(/?)>")
_DECLARATION = re.compile(rb"\s+xmlns:([^\s=]+)\s*=\s*[\"']([^\"']*)[\"']")
# Phones write about fifty elements; a limit on bytes alone would not bound the parsing time.
_MAX_ELEMENTS, _MAX_LEVELS, _MAX_PREFIXES = 20_000, 100, 1000

# The parts that claims refer to, by the names used in responses.
_PARTS = {
    "gain-map": re.compile(
        rb"http://ns\.adobe\.com/hdr-gain-map/|HDRGainMapVersion|aux:hdrgainmap|Semantic\s*=\s*[\"']GainMap"
    ),
    "motion-video": re.compile(rb"MotionPhoto|MicroVideo(?!\w*\s*=\s*[\"']0)|OLivePhoto"),
    "depth-map": re.compile(rb"http://ns\.google\.com/photos/(?:1\.0/depthmap|dd/1\.0)/"),
}

Span = tuple[int, int]


class _UnreadableError(Exception):
    """The packet cannot be parsed safely."""


def parts_of(packet: bytes | None) -> frozenset[str]:
    """Return the parts other than the picture that a packet mentions: gain-map, motion-video, depth-map."""
    return frozenset(name for name, claim in _PARTS.items() if claim.search(packet or b""))


def without_claims(packet: bytes | None) -> bytes | None:
    """Remove claims about gain maps, videos and other parts from a packet.

    The rest is kept byte for byte. None if a packet with claims is malformed or not UTF-8.
    """
    if not packet or not _MENTIONS.search(packet.replace(b"\0", b"")):
        return packet or None
    try:
        spans = _Claims(packet).spans
    except (expat.ExpatError, _UnreadableError, ValueError):
        return None
    packet = _without(packet, spans)
    declared = (found for found in _DECLARATION.finditer(packet) if found[2].startswith(_NAMESPACES))
    return _without(packet, [one.span() for one in declared])


def _without(packet: bytes, spans: list[Span]) -> bytes:
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(packet)]
    return b"".join(packet[start:end] for start, end in zip(starts, ends, strict=True))


class _Claims:
    """Finds the spans of claims in a packet: attributes, and elements with their content."""

    def __init__(self, packet: bytes) -> None:
        self.spans: list[Span] = []
        self._packet = packet
        self._scopes: list[dict[bytes, bytes]] = [{}]
        self._claimed_at: int | None = None
        self._claimed_depth = 0
        self._tag_ends: list[int | None] = []
        self._elements = 0
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse
        parser.XmlDeclHandler = self._declared
        parser.Parse(packet.rstrip(b"\0"), True)

    def _refuse(self, *_: object) -> None:
        raise _UnreadableError

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
            raise _UnreadableError

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        at = self._parser.CurrentByteIndex
        tag = _TAG.match(self._packet, at)
        if tag is None or self._elements > _MAX_ELEMENTS:
            raise _UnreadableError
        declared = {found[1]: found[2] for found in _DECLARATION.finditer(tag[0])}
        self._scopes.append({**self._scopes[-1], **declared} if declared else self._scopes[-1])
        if len(self._scopes) > _MAX_LEVELS or len(self._scopes[-1]) > _MAX_PREFIXES:
            raise _UnreadableError
        self._tag_ends.append(tag.end() if tag[1] else None)
        if self._claimed_at is not None:
            return
        if self._is_claim(name.encode()):
            self._claimed_at, self._claimed_depth = at, len(self._scopes)
            return
        for found in _ATTRIBUTE.finditer(self._packet, at, tag.end()):
            if self._is_claim(found[1]):
                self.spans.append(found.span())

    def _end(self, name: str) -> None:
        end = self._tag_ends.pop() or self._packet.index(b">", self._parser.CurrentByteIndex) + 1
        if self._claimed_at is not None and len(self._scopes) == self._claimed_depth:
            self.spans.append((self._claimed_at, end))
            self._claimed_at = None
        self._scopes.pop()

    def _is_claim(self, name: bytes) -> bool:
        prefix, _, local = name.rpartition(b":")
        if prefix == b"xmlns":
            return False
        return bool(_NAMES.match(local)) or self._scopes[-1].get(prefix, b"").startswith(_NAMESPACES)
