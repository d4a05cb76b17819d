"""The Ray engine: all errands of a run over actors of Ray Data, on as many machines as the cluster has."""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

from server.cli.restore.inputs import Errand
from server.cli.restore.progress import Tally
from server.cli.restore.targets import OwnBench, RunEnded, restore_errand
from server.errors import InvalidRequest, PromptIRServeError
from server.restore.options import RestoreOptions
from server.settings import Settings

# What a worker that dies has to do again at most, and what it has at hand at once.
BATCH_ERRANDS = 16
# One is decoded or encoded while another one runs.
IN_FLIGHT = 3

T = TypeVar("T")


class RayWorker:
    """One actor: a Restorer of its own for as long as it lives.

    Ray gives the errands of a worker that died to another one. What the first has finished is there, whole, and passed
    over: the run began with errands whose results did not exist, or may be overwritten.
    """

    def __init__(self, settings: Settings, options: RestoreOptions, overwrite: bool) -> None:
        self._options = options
        self._overwrite = overwrite
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._bench = self._do(OwnBench(settings).__aenter__())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Restore a batch; one reason for each errand, empty where it is done."""
        rows = zip(batch["source"], batch["target"], strict=True)
        errands = [Errand(_unquoted(source), Path(_unquoted(target))) for source, target in rows]
        return {"source": list(batch["source"]), "reason": self._do(self._restore(errands))}

    async def _restore(self, errands: Sequence[Errand]) -> list[str]:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def restore(errand: Errand) -> str:
            async with slots:
                if not self._overwrite and errand.target.exists():
                    return ""
                try:
                    await restore_errand(self._bench, errand, self._options, overwrite=self._overwrite)
                except (PromptIRServeError, OSError) as error:
                    return str(error) or type(error).__name__
                return ""

        return list(await asyncio.gather(*map(restore, errands)))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def run_on_ray(
    settings: Settings,
    errands: Sequence[Errand],
    options: RestoreOptions,
    tally: Tally,
    *,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Restore them all on the cluster that RAY_ADDRESS names, or on this machine; RunEnded where that ends early."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a tool on somebody's photos tells nobody that it ran
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InvalidRequest("--engine ray needs Ray: pip install 'promptir-serve[ray]'") from error
    own = not ray.is_initialized()
    if own:
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        resources = _resources(settings)
        count = workers or _workers(ray.cluster_resources(), resources)
        settings = _with_threads(settings, int(resources["num_cpus"]))
        # Both columns as text: a worker on another machine has other objects.
        rows = [{"source": _quoted(errand.source), "target": _quoted(str(errand.target))} for errand in errands]
        blocks = max(1, -(-len(rows) // BATCH_ERRANDS))
        ended = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            RayWorker,
            fn_constructor_args=(settings, options, overwrite),
            batch_size=BATCH_ERRANDS,
            concurrency=min(count, blocks),
            **resources,
        )
        _count(ended, errands, tally)
    except ray.exceptions.RayError as error:
        raise RunEnded(f"Ray has given up: {str(error).splitlines()[0]}") from error
    finally:
        if own:
            ray.shutdown()


def _count(ended: Any, errands: Sequence[Errand], tally: Tally) -> None:
    by_source = {_quoted(errand.source): errand for errand in errands}
    for row in ended.iter_rows():
        errand = by_source[row["source"]]
        if row["reason"]:
            tally.fail(errand, row["reason"])
        else:
            tally.done(errand)


def _quoted(name: str) -> str:
    # A column holds text, and the name of a file may be any bytes.
    return quote(os.fsencode(name))


def _unquoted(name: Any) -> str:
    return os.fsdecode(unquote_to_bytes(str(name)))


def _resources(settings: Settings) -> dict[str, float]:
    """What Ray sets aside for a worker: its threads, and a GPU where it runs on one."""
    resources: dict[str, float] = {"num_cpus": settings.backend.threads or 1}
    if settings.backend.device_names[0].startswith("cuda"):
        resources["num_gpus"] = 1
    return resources


def _workers(cluster: Mapping[str, float], worker: Mapping[str, float]) -> int:
    """As many as the cluster holds."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, min(int(cluster.get(names[name], 0) // amount) for name, amount in worker.items()))


def _with_threads(settings: Settings, threads: int) -> Settings:
    # Left to itself every worker would take all the cores of its machine.
    backend = settings.backend.model_copy(update={"threads": threads})
    return settings.model_copy(update={"backend": backend})
