"""Restores photos as one job of a server: `promptir restore photos restored.zip --server URL`."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.restore.files import check_free, read, write
from server.cli.restore.inputs import plan
from server.cli.restore.lists import shown
from server.cli.restore.targets import RunEnded
from server.errors import PromptIRServeError
from server.formats.output import OutputFormat
from server.restore.options import RestoreOptions

if TYPE_CHECKING:
    from promptir_client import AsyncClient, RestoredBatch

SUFFIX = ".zip"


def restore_batch(
    client: "AsyncClient",
    sources: Sequence[str],
    archive: Path,
    output: OutputFormat,
    options: RestoreOptions,
    *,
    overwrite: bool,
) -> int:
    """Send all photos in one request, wait, and write the archive of results; returns 1 if a photo failed.

    Raises PromptIRServeError, OSError, and RunEnded if the server fails.
    """
    from promptir_client import JobFailed, PromptIRError
    from promptir_client import JobOptions as ClientOptions

    check_free(archive, overwrite=overwrite)
    base = archive.with_suffix("")
    photos = plan(sources, f"{base}/", output)
    named = {str(each.destination.relative_to(base).with_suffix(Path(each.source).suffix)): each for each in photos}
    files = {name: read(each.source) for name, each in named.items()}
    given = {key: value for key, value in replace(options, output=output).named().items() if value is not None}
    asked: ClientOptions = {**given}  # type: ignore[typeddict-item]

    async def run() -> "RestoredBatch":
        async with client:
            return await client.wait_batch(await client.submit_batch(files, **asked))

    try:
        restored = asyncio.run(run())
    except JobFailed as error:
        raise PromptIRServeError(str(error)) from error
    except PromptIRError as error:
        raise RunEnded(str(error)) from error
    write(archive, restored.data, overwrite=overwrite)
    print(f"promptir: {len(restored.photos)} of {len(files)} images restored to {shown(str(archive))}", file=sys.stderr)
    for failure in restored.errors:
        reason = (failure["problem"] or {}).get("detail", failure["state"])
        print(f"  {shown(failure['filename'] or '')}: {shown(reason)}", file=sys.stderr)
    return 1 if restored.errors else 0
