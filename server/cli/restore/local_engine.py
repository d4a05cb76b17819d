"""The local engine: all errands of a run, a few at a time, in this process."""

import asyncio
from collections.abc import Sequence

from server.cli.restore.inputs import Errand
from server.cli.restore.progress import Tally
from server.cli.restore.targets import Workbench, restore_errand
from server.errors import PromptIRServeError
from server.restore.options import RestoreOptions


async def run_locally(
    bench: Workbench, errands: Sequence[Errand], options: RestoreOptions, tally: Tally, *, jobs: int, overwrite: bool
) -> None:
    """Restore them all, `jobs` at a time; raises what keeps the bench from working, RunEnded included."""
    waiting = iter(errands)

    async def work() -> None:
        for errand in waiting:  # all who work share them
            try:
                await restore_errand(bench, errand, options, overwrite=overwrite)
            except (PromptIRServeError, OSError) as error:
                tally.fail(errand, str(error))
            else:
                tally.done(errand)
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # while its file was written
                return

    async with bench:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(errands))):
                    group.create_task(work())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
