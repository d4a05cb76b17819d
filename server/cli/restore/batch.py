"""Restores photos as one job of a server: `promptir restore photos restored.zip --server URL`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.restore.files import check_free, read, write
from server.cli.restore.inputs import plan
from server.cli.restore.lists import shown
from server.cli.restore.targets import RunEnded
from server.cli.restore.verdict import verdict
from server.errors import PromptIRServeError
from server.formats.output import OutputFormat
from server.restore.options import RestoreOptions

if TYPE_CHECKING:
    from promptir_client import AsyncClient, Job, RestoredBatch

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
    asking = replace(options, output=output, report=True)
    given = {key: value for key, value in asking.named().items() if value is not None}
    asked: ClientOptions = {**given}  # type: ignore[typeddict-item]

    async def run() -> tuple["RestoredBatch", "Job"]:
        async with client:
            job = await client.submit_batch(files, **asked)
            return await client.wait_batch(job), await client.job(job)

    try:
        restored, job = asyncio.run(run())
    except JobFailed as error:
        raise PromptIRServeError(str(error)) from error
    except PromptIRError as error:
        raise RunEnded(str(error)) from error
    write(archive, restored.data, overwrite=overwrite)
    if sys.stderr.isatty():  # as for photos that are sent one by one
        for name, said in _verdicts(job):
            print(f"{shown(name)}: {said}", file=sys.stderr)
    print(f"promptir: {len(restored.photos)} of {len(files)} images restored to {shown(str(archive))}", file=sys.stderr)
    for failure in restored.errors:
        reason = (failure["problem"] or {}).get("detail", failure["state"])
        print(f"  {shown(failure['filename'] or '')}: {shown(reason)}", file=sys.stderr)
    return 1 if restored.errors else 0


def _verdicts(job: "Job") -> Iterator[tuple[str, str]]:
    for photo in job.document["photos"]:
        if photo["result"] is not None and (report := photo["result"]["report"]) is not None:
            yield photo["filename"] or "", verdict(report["change"]["mean_abs"], report["degradations"])
