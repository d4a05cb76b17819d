"""Tests with slightly changed files: each is read or refused, and every file that is written is valid."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.errors import ImageTooLarge, InvalidImage
from server.formats import codec
from server.formats.header import Peeked, peek, probe
from server.formats.output import ColourPolicy, MetadataPolicy, OutputFormat, OutputOptions
from server.settings import LimitSettings

Encode = Callable[..., bytes]
LIMITS = LimitSettings(max_image_pixels=10_000, max_image_side=500)
KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"]

change = st.tuples(
    st.floats(0, 1),
    st.integers(0, 8),
    st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"]) | st.binary(max_size=8),
)
"""The position as a fraction of the file, the number of bytes to remove, and the bytes to insert."""


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Apply the changes; half of them are in the first part of the file, which contains the headers."""
    for share, gone, new in changes:
        at = int((2 * share - 1) * len(data)) if share > 0.5 else int(share * 200)
        data = data[:at] + new + data[at + gone :]
    return data


@pytest.mark.parametrize("kind", KINDS)
@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(change, min_size=1, max_size=4),
    output=st.sampled_from(OutputFormat),
    colours=st.sampled_from(ColourPolicy),
    metadata=st.sampled_from(MetadataPolicy),
)
def test_a_changed_file_is_read_or_refused_and_written_soundly(
    kind: str,
    changes: list[tuple[float, int, bytes]],
    output: OutputFormat,
    colours: ColourPolicy,
    metadata: MetadataPolicy,
    encode: Encode,
) -> None:
    data = changed(encode(kind), changes)
    early: InvalidImage | Peeked | None
    try:
        early = peek(data[:100], LIMITS)
    except InvalidImage as error:
        early = error
    with suppress(InvalidImage):
        header = probe(data, LIMITS)
        assert not isinstance(early, InvalidImage) or isinstance(early, ImageTooLarge)
        image = codec.decode(data, header, colours)
        assert image.crop().shape == (3, header.height, header.width)
        written = codec.encode(image, image.planes, output, 80, OutputOptions(metadata))
        again = probe(written, LimitSettings())
        assert (again.format.lower(), again.height, again.width) == (output.value, header.height, header.width)
