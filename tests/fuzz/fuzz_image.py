"""Coverage-guided fuzzing of the codec and of forms: `python tests/fuzz/fuzz_image.py [libFuzzer options] [files]`.

The last byte of an input selects the parser of the rest and its options. Every exception other than our own refusals is
a finding, which libFuzzer saves as `crash-...`; run this script with that file to repeat it. Coverage is measured in
Python, not in the C code of OpenCV, Pillow and LittleCMS.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server", "python_multipart"]):
    from server.errors import ImageTooLarge, InvalidImage, InvalidRequest
    from server.formats import codec
    from server.formats.header import peek, probe
    from server.formats.output import ColourPolicy, MetadataPolicy, OutputFormat, OutputOptions, PngEffort
    from server.http.body.file_buffer import FileBuffer
    from server.http.body.form import FormFile
    from server.http.restore.options import read_options
    from server.settings import LimitSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
import malformed

LONGEST_SEED = 4096
# Small images, so that an input costs microseconds.
LIMITS = LimitSettings(max_image_pixels=64 * 64, max_image_side=256, max_metadata_bytes=64 * 1024)
OUTPUTS = list(OutputFormat)
FORM, OPTIONS = 0xFF, 0xFE
FORM_SEED = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'


def one_input(data: bytes) -> None:
    """Feed one input to the parser that its last byte selects."""
    rest, choice = data[:-1], data[-1] if data else 0
    if choice == FORM:
        read_form(rest)
    elif choice == OPTIONS:
        read_request_options(rest)
    else:
        read_image(rest, choice)


def read_image(data: bytes, choice: int) -> None:
    """Peek at the size as for an arriving upload, decode the image and encode it as selected."""
    early, refusal = None, None
    try:
        early = peek(data[: 64 * (choice + 1)], LIMITS)
    except InvalidImage as error:
        refusal = error
    with suppress(InvalidImage):
        header = probe(data, LIMITS)
        assert refusal is None or isinstance(refusal, ImageTooLarge), f"refused early, and then read: {refusal}"
        assert early is None or sorted(early[1:]) == sorted((header.height, header.width)), (early, header)
        colours = ColourPolicy.SRGB if choice & 8 else ColourPolicy.KEEP
        image = codec.decode(data, header, colours)
        assert image.crop().shape == (3, header.height, header.width)
        policy = MetadataPolicy.STRIP if choice & 16 else MetadataPolicy.KEEP
        options = OutputOptions(policy, PngEffort.SMALL if choice & 32 else PngEffort.FAST)
        written = codec.encode(image, image.planes, OUTPUTS[choice % len(OUTPUTS)], 1 + choice % 100, options)
        # The encoded file must be readable, whatever metadata it has from the upload.
        again = probe(written, LimitSettings())
        assert (again.height, again.width) == (header.height, header.width)


def read_form(data: bytes) -> None:
    """Parse a content type up to the first line end, then a form in two chunks."""
    content_type, _, body = data.partition(b"\n")
    with suppress(InvalidRequest):
        file = FileBuffer(lambda start: False)
        form = FormFile(content_type.decode("latin-1"), file)
        form.feed(body[: len(body) // 2])
        form.feed(body[len(body) // 2 :])
        form.finish()
        assert file.size == len(file.take())


def read_request_options(data: bytes) -> None:
    """Parse a query up to the first line end, then two headers."""
    query, _, rest = data.partition(b"\n")
    deadline, _, priority = rest.partition(b"\n")
    with suppress(InvalidRequest):
        read_options(query, {b"x-deadline-ms": deadline, b"x-priority": priority})


def seeds() -> list[bytes]:
    """Return valid and broken small files, a form and options."""
    sound = [malformed.photo(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF")]
    files = [*sound, *(data for data in malformed.corpus().values() if len(data) <= LONGEST_SEED)]
    inputs = [data + bytes((number % OPTIONS,)) for number, data in enumerate(files)]
    inputs.append(b"multipart/form-data; boundary=x\n" + FORM_SEED + bytes((FORM,)))
    inputs.append(b"format=jpeg&quality=80&strength=0.5&tile=256&overlap=32\n1000\nbatch" + bytes((OPTIONS,)))
    return inputs


def main() -> None:
    """Fuzz from the seeds, or repeat the given files."""
    codec.silence_decoder_messages()
    with tempfile.TemporaryDirectory() as folder:
        arguments = sys.argv
        if all(argument.startswith("-") for argument in arguments[1:]):
            for number, data in enumerate(seeds()):
                (Path(folder) / str(number)).write_bytes(data)
            arguments = [*arguments, folder]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
