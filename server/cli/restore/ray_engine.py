"""Ray engine: restores all inputs of a run with actors of Ray Data on the machines of a cluster."""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

from server.cli.restore.inputs import Input
from server.cli.restore.progress import Progress
from server.cli.restore.targets import LocalTarget, RunEnded, restore_input
from server.cli.restore.verdict import UNKNOWN
from server.errors import InvalidRequest, PromptIRServeError
from server.restore.options import RestoreOptions
from server.settings import Settings

# The most work a dying worker loses, and the inputs a worker has at once.
BATCH_INPUTS = 16
# One is decoded or encoded while another one runs.
IN_FLIGHT = 3

T = TypeVar("T")


class RayWorker:
    """Ray actor with a Restorer of its own.

    If a worker dies, Ray passes its inputs to another one. Results that the first one finished are complete and are
    skipped: at the start of the run no result existed, or all may be overwritten.
    """

    def __init__(self, settings: Settings, options: RestoreOptions, overwrite: bool) -> None:
        self._options = options
        self._overwrite = overwrite
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._target = self._do(LocalTarget(settings).__aenter__())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Restore a batch; returns per input a verdict, or the reason why it failed."""
        rows = zip(batch["source"], batch["target"], strict=True)
        inputs = [Input(_unquoted(source), Path(_unquoted(target))) for source, target in rows]
        verdicts, reasons = zip(*self._do(self._restore(inputs)), strict=True)
        return {"source": list(batch["source"]), "verdict": list(verdicts), "reason": list(reasons)}

    async def _restore(self, inputs: Sequence[Input]) -> list[tuple[str, str]]:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def restore(item: Input) -> tuple[str, str]:
            async with slots:
                if not self._overwrite and item.destination.exists():
                    return UNKNOWN, ""
                try:
                    return await restore_input(self._target, item, self._options, overwrite=self._overwrite), ""
                except (PromptIRServeError, OSError) as error:
                    return "", str(error) or type(error).__name__

        return list(await asyncio.gather(*map(restore, inputs)))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def run_on_ray(
    settings: Settings,
    inputs: Sequence[Input],
    options: RestoreOptions,
    progress: Progress,
    *,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Restore all inputs on the cluster of RAY_ADDRESS, or on this machine; raises RunEnded if Ray fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # photos are private, so nothing is reported
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InvalidRequest("--engine ray needs Ray: pip install 'promptir-serve[ray]'") from error
    own = not ray.is_initialized()
    if own:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # this command has its own
        resources = _resources(settings)
        count = workers or _workers(ray.cluster_resources(), resources)
        settings = _with_threads(settings, int(resources["num_cpus"]))
        # Both columns are text, since a worker may be on another machine.
        rows = [{"source": _quoted(item.source), "target": _quoted(str(item.destination))} for item in inputs]
        blocks = max(1, -(-len(rows) // BATCH_INPUTS))
        ended = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            RayWorker,
            fn_constructor_args=(settings, options, overwrite),
            batch_size=BATCH_INPUTS,
            concurrency=min(count, blocks),
            **resources,
        )
        _count(ended, inputs, progress)
    except ray.exceptions.RayError as error:
        raise RunEnded(f"Ray has stopped: {str(error).splitlines()[0]}") from error
    finally:
        if own:
            ray.shutdown()


def _count(ended: Any, inputs: Sequence[Input], progress: Progress) -> None:
    by_source = {_quoted(item.source): item for item in inputs}
    for row in ended.iter_rows():
        item = by_source[row["source"]]
        if row["reason"]:
            progress.fail(item, row["reason"])
        else:
            progress.done(item, str(row["verdict"]))


def _quoted(name: str) -> str:
    # A column contains text, and a file name may be any bytes.
    return quote(os.fsencode(name))


def _unquoted(name: Any) -> str:
    return os.fsdecode(unquote_to_bytes(str(name)))


def _resources(settings: Settings) -> dict[str, float]:
    """Return the resources Ray reserves per worker: its threads, and a GPU if it runs on one."""
    resources: dict[str, float] = {"num_cpus": settings.backend.threads or 1}
    if settings.backend.device_names[0].startswith("cuda"):
        resources["num_gpus"] = 1
    return resources


def _workers(cluster: Mapping[str, float], worker: Mapping[str, float]) -> int:
    """Return how many workers fit in the cluster."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, min(int(cluster.get(names[name], 0) // amount) for name, amount in worker.items()))


def _with_threads(settings: Settings, threads: int) -> Settings:
    # By default every worker would use all cores of its machine.
    backend = settings.backend.model_copy(update={"threads": threads})
    return settings.model_copy(update={"backend": backend})
