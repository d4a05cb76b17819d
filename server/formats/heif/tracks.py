"""Tracks: image sequences in a HEIF file, in addition to its still image (ISO/IEC 14496-12, section 8.3)."""

from server.formats.heif.boxes import Box, Fields, boxes

SEQUENCE_BRANDS = frozenset({b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"})
_WAY_TO_SIZES = (b"trak", b"mdia", b"minf", b"stbl", b"stsz")
_MAX_BOXES = 100


def frames_of(data: bytes, movie: Box | None) -> int:
    """Count the displayed frames of a file: the longest track if the major brand denotes a sequence, else one.

    Raises BrokenBoxError.
    """
    if movie is None or data[8:12] not in SEQUENCE_BRANDS:
        return 1
    inside = [movie]
    for kind in _WAY_TO_SIZES:
        inside = [box for outer in inside for box in boxes(data, outer.body, outer.end, _MAX_BOXES) if box.kind == kind]
        inside = inside[:_MAX_BOXES]
    return max((_samples(data, sizes) for sizes in inside), default=1)


def _samples(data: bytes, sizes: Box) -> int:
    fields = Fields(data, sizes.body, sizes.end)
    fields.take(8)  # version, flags, and the size if it is the same for all samples
    return max(1, fields.integer(4))
