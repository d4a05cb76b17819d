"""The wiring of restorations without HTTP, which the command line needs as well."""

import importlib.metadata
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

from server import backends
from server.backends.base import BackendInfo
from server.backends.settings import RuntimeSettings
from server.concurrency import available_cores
from server.metrics import Metrics
from server.restore.artifact_watcher import ArtifactWatcher
from server.restore.pipeline import Restorer
from server.restore.served_models import served_models
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.recovery import ParityCheck
from server.scheduling.execution.worker import NewBackend, Worker
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.policy.device import Device, LoadedModel
from server.scheduling.policy.mixed_sizes import PaddedShapes
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import TileQueue
from server.settings import Settings

NewBackends = Callable[[RuntimeSettings, int], NewBackend]  # for the settings of a model and its largest batch


def backends_of(settings: RuntimeSettings, max_batch: int) -> NewBackend:
    """Return the factory of the backends that the settings name."""
    return lambda name: backends.create(settings, max_batch, name)


def create_restorer(settings: Settings, metrics: Metrics, new_backends: NewBackends = backends_of) -> Restorer:
    """Wire the Restorer, not started, with the backends of `new_backends`."""
    batching, clock = settings.batching, time.monotonic
    models = served_models(settings.backend)
    for model in models:
        metrics.add_model(model)
    sides = batching.padded_shape_sides
    padded_shapes = PaddedShapes([PaddedShape(*pair, model) for pair in sides for model in models]).chosen
    batcher = Batcher(
        TileQueue(batching.max_queued_pixels),
        metrics,
        clock,
        max_backlog_s=batching.max_backlog_ms / 1e3,
        padded_shapes=padded_shapes,
    )
    check = ParityCheck(settings.backend.fp32_check_every, settings.backend.fp32_gate_db)
    configured = {model: new_backends(own, batching.max_batch) for model, own in models.items()}
    costs: defaultdict[tuple[str, str, NewBackend], CostModel] = defaultdict(CostModel)

    def new_worker(name: str, replaced: Mapping[str, NewBackend]) -> Worker:
        makers = {**configured, **replaced}
        loaded = {  # what a run costs is the same after a rebuild
            model: LoadedModel(batching.max_batch, settings.run_pixels(name), costs[name, model, make])
            for model, make in makers.items()
        }
        made = {model: make(name) for model, make in makers.items()}
        timeout_s = settings.backend.run_timeout_s
        return Worker(
            Device(name, loaded),
            made,
            batcher,
            metrics,
            clock,
            check=check,
            run_timeout_s=timeout_s,
            padded_shapes=padded_shapes,
        )

    workers = WorkerPool(settings.backend.device_names, new_worker, batcher, metrics, clock)
    return Restorer(
        batcher,
        workers,
        settings.limits,
        metrics,
        clock,
        models=tuple(models),
        max_whole_pixels=settings.whole_pixels,
        codec_processes=settings.codec_process_count(available_cores()),
    )


def create_artifact_watchers(
    settings: Settings, restorer: Restorer, metrics: Metrics, new_backends: NewBackends
) -> list[ArtifactWatcher]:
    """Wire a watcher for each folder in which the settings say that a better artifact may appear."""

    def replace(model: str, better: RuntimeSettings) -> Awaitable[BackendInfo]:
        return restorer.replace(model, new_backends(better, settings.batching.max_batch))

    present = settings.backend
    return [ArtifactWatcher(folder, present, replace, metrics) for folder in present.successor]


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return importlib.metadata.version("promptir-serve")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0+checkout"
