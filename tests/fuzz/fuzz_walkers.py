"""Coverage-guided fuzzing of the header parsers: `python tests/fuzz/fuzz_walkers.py boxes|markers|tiles [options]`.

Runs no decoder, so that an input costs microseconds. A finding is an exception other than a refusal, a disagreement of
two parsers, or a slow input; see `fuzz_image.py` for how to repeat it.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server.imaging"]):
    from server.errors import InvalidImage
    from server.formats import jpeg, tiff
    from server.formats.heif.boxes import BrokenBoxError
    from server.formats.heif.brands import format_by_brands
    from server.formats.heif.coded_size import av1_sizes, hevc_sizes
    from server.formats.heif.picture import for_decoder, read_picture
    from server.imaging import xmp

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
import malformed

LONGEST_SEED = 4096
MOST_METADATA_BYTES = 64 * 1024


def read_boxes(data: bytes) -> None:
    """Parse HEIF tables, coded sizes and brands."""
    format_by_brands(data)
    with suppress(BrokenBoxError):
        list(av1_sizes(data))
    with suppress(BrokenBoxError):
        list(hevc_sizes(data[:200], data[200:]))
    for name in ("AVIF", "HEIC"):
        with suppress(InvalidImage):
            picture = read_picture(data, name, MOST_METADATA_BYTES)
            shown = bytes(for_decoder(picture))
            again = read_picture(shown, name, MOST_METADATA_BYTES)
            assert (again.width, again.height) == (picture.width, picture.height)
            assert again.metadata.exif is None


def read_markers(data: bytes) -> None:
    """Parse the markers of a JPEG with both readers of its size, and its XMP."""
    xmp.without_claims(data)
    early = {jpeg.FORMAT.dimensions(data[:end]) for end in (64, 512, len(data))} - {None}
    with suppress(InvalidImage):
        header = jpeg.FORMAT.read_header(data, MOST_METADATA_BYTES)
        assert early <= {(header.height, header.width)}, (early, header)


def read_tiles(data: bytes) -> None:
    """Parse the directories of a TIFF and its strips or tiles, and compare with the peeked size."""
    early = {tiff.FORMAT.dimensions(data[:end]) for end in (64, 512, len(data))} - {None}
    with suppress(InvalidImage):
        header = tiff.FORMAT.read_header(data, MOST_METADATA_BYTES)
        assert header.decoded_pixels >= header.width * header.height
        assert early <= {(header.height, header.width)}, (early, header)


WALKS = {
    "boxes": (read_boxes, ".avif", "AVIF"),
    "markers": (read_markers, ".jpeg", "JPEG"),
    "tiles": (read_tiles, ".tiff", "TIFF"),
}


def main() -> None:
    """Fuzz one parser from the corpus, or repeat the given files."""
    walk, suffix, kind = WALKS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv
        if all(argument.startswith("-") for argument in arguments[1:]):
            seeds = [
                malformed.photo(kind),
                *(data for name, data in malformed.corpus().items() if name.endswith(suffix)),
            ]
            for number, data in enumerate(seeds):
                if len(data) <= LONGEST_SEED:
                    (Path(folder) / str(number)).write_bytes(data)
            arguments = [*arguments, folder]
        atheris.Setup(arguments, walk)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
