"""Output options: the format of a restored image, and the policies for its metadata and colours."""

from enum import StrEnum
from typing import NamedTuple

from server import formats
from server.formats.base import Encoder, Format
from server.formats.base import PngEffort as PngEffort


class OutputFormat(StrEnum):
    """Output format: one member for every format with an encoder, PNG first."""

    _ignore_ = "members key"

    PNG = formats.DEFAULT.key
    members = vars()
    for key in formats.WRITTEN:
        if key != PNG:
            members[key.upper()] = key

    def __init__(self, key: str) -> None:
        self.file_format: Format = formats.WRITTEN[key]
        """The description of the format."""
        encoder = self.file_format.encoder
        assert encoder is not None  # noqa: S101 - members are made of the formats that have one
        self.encoder: Encoder = encoder
        """The encoder of the format."""
        self.media_type = self.file_format.media_type
        """The registered media type."""
        self.suffix = self.file_format.suffixes[0]
        """The usual file name suffix, with its dot."""

    @classmethod
    def same_as(cls, input_format: str) -> "OutputFormat":
        """Return the output format that matches an upload's format, or PNG if that has no encoder."""
        key = formats.BY_NAME[input_format].key
        return cls(key) if key in formats.WRITTEN else cls.PNG


class MetadataPolicy(StrEnum):
    """Handling of EXIF and XMP; the colour profile belongs to the picture and follows `ColourPolicy`."""

    KEEP = "keep"
    STRIP = "strip"


class ColourPolicy(StrEnum):
    """Handling of colours that a profile describes."""

    KEEP = "keep"
    """Samples and profile are kept."""
    SRGB = "srgb"
    """Samples are converted to sRGB and the profile is dropped; images of more than 8 bits keep both."""


class OutputOptions(NamedTuple):
    """Encoding options other than format and quality."""

    metadata: MetadataPolicy = MetadataPolicy.KEEP
    effort: PngEffort = PngEffort.FAST
