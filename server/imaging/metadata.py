"""Metadata: the colour profile, EXIF and XMP of an image file."""

from dataclasses import dataclass, replace

from server.imaging import exif
from server.imaging.colour_chunks import profile_of
from server.imaging.orientation import upright_xmp


@dataclass(frozen=True)
class Metadata:
    """Colour profile, EXIF (without anything before its TIFF header) and XMP, byte for byte."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG's other descriptions of colour (gAMA, cHRM, sRGB, cICP): type and body."""

    @property
    def size(self) -> int:
        """The bytes of profile, EXIF and XMP."""
        return sum(len(part) for part in (self.icc_profile, self.exif, self.xmp) if part is not None)

    def upright(self, turned_by: int = 1) -> "Metadata":
        """Return the metadata for an image that was turned upright from orientation 1..8, without malformed EXIF."""
        if self.exif is None and self.xmp is None:
            return self
        return replace(self, exif=exif.upright(self.exif, turned_by), xmp=upright_xmp(self.xmp))

    def profile(self, *, is_grey: bool) -> bytes | None:
        """Return the colour profile, or a profile equivalent to PNG's colour chunks; None for sRGB."""
        if self.icc_profile or not self.colour_chunks:
            return self.icc_profile or None
        return profile_of(dict(self.colour_chunks), is_grey=is_grey)

    def with_profile(self, *, is_grey: bool) -> "Metadata":
        """Return the metadata with PNG's colour chunks converted to a profile."""
        return replace(self, icc_profile=self.profile(is_grey=is_grey))

    def without_exif_and_xmp(self) -> "Metadata":
        """Return the metadata without EXIF and XMP, which may reveal place and time."""
        return replace(self, exif=None, xmp=None)

    def without_colour(self) -> "Metadata":
        """Return the metadata for an sRGB image: without profile and colour chunks."""
        return replace(self, icc_profile=None, colour_chunks=())


NO_METADATA = Metadata()
"""That of an image file without any, as most small ones are."""
