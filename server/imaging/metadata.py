"""Metadata: what a file carries beside its pixels."""

from dataclasses import dataclass, replace

from server.imaging import colour_words, exif
from server.imaging.orientation import upright_xmp


@dataclass(frozen=True)
class Metadata:
    """The colour profile, EXIF (from its TIFF header on) and XMP, byte for byte."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG's other words about colour (gAMA, cHRM, sRGB, cICP): kind and body."""

    def upright(self, turned_by: int = 1) -> "Metadata":
        """The same for an image that has been turned by an orientation, 1..8; broken EXIF is left out."""
        if self.exif is None and self.xmp is None:
            return self
        return replace(self, exif=exif.upright(self.exif, turned_by), xmp=upright_xmp(self.xmp))

    def profile(self, *, is_grey: bool) -> bytes | None:
        """What says what the colours mean: the colour profile, or one made of PNG's other words; None for sRGB."""
        return self.icc_profile or colour_words.profile_of(dict(self.colour_chunks), is_grey=is_grey)

    def with_profile(self, *, is_grey: bool) -> "Metadata":
        """The same for a format that has no other words about colour than a profile."""
        return replace(self, icc_profile=self.profile(is_grey=is_grey))

    def without_notes(self) -> "Metadata":
        """Only what the colours need: neither EXIF, with its place and time, nor XMP."""
        return replace(self, exif=None, xmp=None)

    def without_colour(self) -> "Metadata":
        """The same for an image in sRGB."""
        return replace(self, icc_profile=None, colour_chunks=())
