"""Metadata that a file carries besides its pixels."""

from dataclasses import dataclass, replace

from server.imaging import colour_words, exif
from server.imaging.orientation import upright_xmp


@dataclass(frozen=True)
class Metadata:
    """Colour profile, EXIF (from its TIFF header on) and XMP, byte for byte."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG's further colour chunks (gAMA, cHRM, sRGB, cICP): type and body."""

    def upright(self, turned_by: int = 1) -> "Metadata":
        """Return the metadata for an image rotated by an orientation, 1..8; broken EXIF is left out."""
        if self.exif is None and self.xmp is None:
            return self
        return replace(self, exif=exif.upright(self.exif, turned_by), xmp=upright_xmp(self.xmp))

    def profile(self, *, is_grey: bool) -> bytes | None:
        """Return the colour profile, or one built from PNG's colour chunks; None for sRGB."""
        return self.icc_profile or colour_words.profile_of(dict(self.colour_chunks), is_grey=is_grey)

    def with_profile(self, *, is_grey: bool) -> "Metadata":
        """Return the metadata for a format whose only colour description is a profile."""
        return replace(self, icc_profile=self.profile(is_grey=is_grey))

    def without_notes(self) -> "Metadata":
        """Return only the colour information, without EXIF (which has place and time) and XMP."""
        return replace(self, exif=None, xmp=None)

    def without_colour(self) -> "Metadata":
        """Return the metadata for an image in sRGB."""
        return replace(self, icc_profile=None, colour_chunks=())
