"""Output: what a restored image is written as."""

from dataclasses import dataclass
from enum import StrEnum


class OutputFormat(StrEnum):
    """A kind of file that restored images are written as."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
    TIFF = "tiff"

    @property
    def media_type(self) -> str:
        """The registered media type."""
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        """The usual file name suffix, with its dot."""
        return {OutputFormat.JPEG: ".jpg", OutputFormat.TIFF: ".tif"}.get(self, f".{self.value}")

    @classmethod
    def same_as(cls, input_format: str) -> "OutputFormat":
        """The format of an upload, by its name in the header, where it is written; else PNG (for BMP)."""
        return next((output for output in cls if output.value == input_format.lower()), cls.PNG)


class MetadataPolicy(StrEnum):
    """What becomes of EXIF and XMP; the colour profile is part of the picture and follows `ColourPolicy`."""

    KEEP = "keep"
    STRIP = "strip"


class ColourPolicy(StrEnum):
    """What becomes of colours that a profile describes."""

    KEEP = "keep"
    """The numbers stay, and the profile with them."""
    SRGB = "srgb"
    """The numbers are converted to sRGB and the profile goes; images of more than 8 bits keep it."""


class PngEffort(StrEnum):
    """How long to look for a smaller PNG."""

    FAST = "fast"
    SMALL = "small"


@dataclass(frozen=True)
class OutputOptions:
    """How to write, beyond the format and its quality."""

    metadata: MetadataPolicy = MetadataPolicy.KEEP
    effort: PngEffort = PngEffort.FAST
