"""Local engine: restores all inputs of a run, several at a time, in this process."""

import asyncio
from collections.abc import Sequence

from server.cli.restore.inputs import Input
from server.cli.restore.progress import Progress
from server.cli.restore.targets import RestoreTarget, restore_input
from server.errors import PromptIRServeError
from server.restore.options import RestoreOptions


async def run_locally(
    target: RestoreTarget,
    inputs: Sequence[Input],
    options: RestoreOptions,
    progress: Progress,
    *,
    jobs: int,
    overwrite: bool,
) -> None:
    """Restore all inputs, `jobs` at a time; raises the error that stops the target, such as RunEnded."""
    waiting = iter(inputs)

    async def work() -> None:
        for item in waiting:  # the workers share one iterator
            try:
                verdict = await restore_input(target, item, options, overwrite=overwrite)
            except (PromptIRServeError, OSError) as error:
                progress.fail(item, str(error))
            else:
                progress.done(item, verdict)
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # cancelled while the file was written
                return

    async with target:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(inputs))):
                    group.create_task(work())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
