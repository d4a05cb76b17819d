"""Restores one photo between pipes: `promptir restore - -` reads standard input and writes standard output."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from server.cli.restore.files import check_free, read, write
from server.cli.restore.inputs import OUTPUT_BY_SUFFIX, SUFFIXES
from server.cli.restore.targets import RestoreTarget
from server.errors import ImageTooLarge, InvalidRequest
from server.formats.output import OutputFormat
from server.restore.options import RestoreOptions

PIPE = "-"


def restore_piped(
    target: RestoreTarget,
    source: str,
    destination: str,
    output: OutputFormat,
    options: RestoreOptions,
    *,
    overwrite: bool,
    max_bytes: int,
) -> None:
    """Restore one photo, where `-` is standard input or output; writes nothing unless the photo is restored.

    `output` is the format on standard output; the suffix of a file names its own. Raises PromptIRServeError and
    OSError.
    """
    if destination != PIPE:
        suffix = Path(destination).suffix.lower()
        if suffix not in OUTPUT_BY_SUFFIX:
            raise InvalidRequest(f"{destination} names no output format: use the suffix {SUFFIXES}")
        check_free(Path(destination), overwrite=overwrite)
        output = OUTPUT_BY_SUFFIX[suffix]
    elif sys.stdout is None:
        raise InvalidRequest("standard output is closed: redirect it, or name a file")
    elif sys.stdout.isatty():
        raise InvalidRequest("the result is an image and not for a terminal: redirect it, or name a file")
    data = _standard_input(max_bytes) if source == PIPE else read(source)
    if not data:
        raise InvalidRequest("standard input is empty" if source == PIPE else f"{source} is empty")
    restored = asyncio.run(_restored(target, data, replace(options, output=output)))
    if destination != PIPE:
        write(Path(destination), restored, overwrite=overwrite)
        return
    sys.stdout.buffer.write(restored)
    sys.stdout.buffer.flush()


async def _restored(target: RestoreTarget, data: bytes, options: RestoreOptions) -> bytes:
    async with target:
        return (await target.restore(data, options)).data


def _standard_input(max_bytes: int) -> bytes:
    if sys.stdin is None:
        raise InvalidRequest("standard input is closed: pipe an image into the command, or name a file")
    if sys.stdin.isatty():
        raise InvalidRequest("standard input is a terminal: pipe an image into the command, or name a file")
    data = sys.stdin.buffer.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLarge(f"standard input has more than the {max_bytes} bytes of --max-upload-bytes")
    return data
