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

    @property
    def file_format(self) -> Format:
        """The description of the format."""
        return formats.WRITTEN[self._value_]  # `value` runs Python code, and images ask for it eight times

    @property
    def encoder(self) -> Encoder:
        """The encoder of the format."""
        encoder = self.file_format.encoder
        assert encoder is not None  # noqa: S101 - members are made of the formats that have one
        return encoder

    @property
    def media_type(self) -> str:
        """The registered media type."""
        return self.file_format.media_type

    @property
    def suffix(self) -> str:
        """The usual file name suffix, with its dot."""
        return self.file_format.suffixes[0]

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
