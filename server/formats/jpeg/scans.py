"""JPEG scans: limit on their number, and completeness of the picture (ITU-T T.81, annexes B and G)."""

from collections.abc import Sequence

from server.errors import UnsupportedImage

# Cameras write about ten. Each scan costs a pass over all pixels, however little data it contains.
MAX_SCANS = 100
# At 1 ns per pixel and scan, a large photo with many scans would take seconds of CPU time.
USUAL_SCANS, MAX_SCANNED_PIXELS = 20, 10**9

_ALL = (1 << 64) - 1


class Scans:
    """Counts the scans of a frame, and tracks which coefficients of its components are incomplete.

    A sequential scan completes its components; a progressive scan adds a band of coefficients down to some bit.
    """

    def __init__(self, pixels: int, components: Sequence[int], *, is_progressive: bool) -> None:
        self._pixels = pixels
        self._missing = dict.fromkeys(components, _ALL)
        self._is_progressive = is_progressive
        self._count = 0

    @property
    def is_complete(self) -> bool:
        """Whether no further scan can add to the picture."""
        return not any(self._missing.values())

    def add(self, parameters: bytes) -> None:
        """Record a scan from its header parameters; raises UnsupportedImage for too many scans."""
        self._count += 1
        scanned = self._count * self._pixels
        if self._count > MAX_SCANS or (self._count > USUAL_SCANS and scanned > MAX_SCANNED_PIXELS):
            raise UnsupportedImage(
                f"The JPEG has more than {self._count - 1} scans, too many for {self._pixels} pixels: save it again."
            )
        if not parameters or len(parameters) < 4 + 2 * parameters[0]:
            return  # the decoder will reject it
        end = 1 + 2 * parameters[0]
        left = ~_ALL
        if self._is_progressive:
            first, last, bits = parameters[end : end + 3]
            left = ~sum(1 << at for at in range(first, min(last, 63) + 1)) if bits & 0x0F == 0 else _ALL
        for component in parameters[1:end:2]:
            if component in self._missing:
                self._missing[component] &= left
