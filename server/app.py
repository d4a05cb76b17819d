"""The composition root: the only place where the parts of the server are wired together."""

import asyncio
import importlib.metadata
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server import backends
from server.access.access import Access
from server.backends.base import BackendInfo
from server.backends.nvml import gpu_readers
from server.concurrency import available_cores, bound_thread_pools
from server.formats import codec
from server.http import error_responses, openapi
from server.http.body.body import UploadRoom
from server.http.jobs import schemas
from server.http.jobs.routes import router as jobs_router
from server.http.jobs.submit import METHOD as SUBMIT_METHOD
from server.http.jobs.submit import SubmitRoute
from server.http.middleware.methods import Methods
from server.http.middleware.paths import own_path
from server.http.middleware.stack import layers_of, within
from server.http.open_inference import front as open_inference
from server.http.ops.health import router as health_router
from server.http.ops.page import Page
from server.http.ops.routes import router
from server.http.protocol.load_shedder import LoadShedder
from server.http.restore.report import ReportDocument
from server.http.restore.route import METHOD, PATH, RestoreRoute
from server.http.services import Services
from server.jobs.budget import Budget
from server.jobs.long_work import LongWork
from server.jobs.runner import Runner
from server.jobs.store import Store
from server.jobs.store_thread import StoreThread
from server.metrics import Metrics
from server.restore.artifact_watcher import ArtifactWatcher
from server.restore.guide import reserve_workspace
from server.restore.options import Restored
from server.restore.pipeline import Restorer
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.recovery import ParityCheck
from server.scheduling.execution.worker import NewBackend, Worker
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import TileQueue
from server.settings import PREFIX, BackendSettings, HttpSettings, JobSettings, Settings, SettingsError
from server.tracing import Tracing
from server.tracing import create as create_tracing

if TYPE_CHECKING:
    from server.grpc.front import RpcFront

# The last traces may take so long at the end of the server, when nobody waits for an answer any more.
SEND_TRACES_S = 3.0
DESCRIPTION = "Blind image restoration: one network finds and removes noise, rain and haze."


def create_restorer(settings: Settings, metrics: Metrics, new_backend: NewBackend | None = None) -> Restorer:
    """Wire the use case, not started; `new_backend` makes other backends than the one that the settings name."""
    batching, devices = settings.batching, settings.backend.device_names
    clock = time.monotonic
    batcher = Batcher(
        TileQueue(batching.max_queued_pixels),
        metrics,
        clock,
        max_backlog_s=batching.max_backlog_ms / 1e3,
        padded_shapes=[PaddedShape(*sides) for sides in batching.padded_shape_sides],
    )
    check = ParityCheck(settings.backend.fp32_check_every, settings.backend.fp32_gate_db)
    costs: defaultdict[tuple[str, NewBackend | None], CostModel] = defaultdict(CostModel)

    def new_worker(name: str, replacing: NewBackend | None = None) -> Worker:
        # What a run costs is the same after a rebuild.
        device = Device(name, batching.max_batch, settings.run_pixels(name), costs[name, replacing])
        make = replacing or new_backend or new_backends(settings.backend, batching.max_batch)
        backend = make(name)
        timeout_s = settings.backend.run_timeout_s
        return Worker(device, backend, batcher, metrics, clock, check=check, run_timeout_s=timeout_s)

    workers = WorkerPool(devices, new_worker, batcher, metrics, clock)
    return Restorer(batcher, workers, settings.limits, metrics, clock, max_whole_pixels=settings.whole_pixels)


def new_backends(settings: BackendSettings, max_batch: int) -> NewBackend:
    """What makes the backends that the settings name."""
    return lambda name: backends.create(settings, max_batch, name)


def create_succession(settings: Settings, restorer: Restorer, metrics: Metrics) -> ArtifactWatcher | None:
    """Wire the watch for a better artifact; None where none is to come."""
    present = settings.backend
    if present.successor is None:
        return None

    def replace(better: BackendSettings) -> Awaitable[BackendInfo]:
        return restorer.replace(new_backends(better, settings.batching.max_batch))

    return ArtifactWatcher(present.successor, present, replace, metrics)


def create_jobs(
    settings: JobSettings, restorer: Restorer, metrics: Metrics, access: Access | None = None
) -> LongWork | None:
    """Wire the long work, not started; None where the settings give it no folder. The clients of `access` share it."""
    if settings.jobs_folder is None:
        return None
    budget = Budget(settings.jobs_max_bytes, lambda: () if access is None else access.clients)
    store = Store(settings.jobs_folder, budget, settings.jobs_keep_hours * 3600)
    thread = StoreThread()

    def describe(restored: Restored) -> dict[str, object]:
        return ReportDocument.of(restored).model_dump(mode="json")

    return LongWork(store, thread, Runner(store, thread, restorer, error_responses.problem_of, describe), metrics)


def create_rpc(http: HttpSettings, services: Services, room: UploadRoom) -> "RpcFront | None":
    """Wire gRPC, not started; None where the settings give it no port. Raises SettingsError without its packages."""
    if http.grpc_port is None:
        return None
    try:
        from server.grpc.front import RpcFront
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{PREFIX}GRPC_PORT: {error.name} is not installed; install the extra: pip install 'promptir-serve[grpc]'"
        ) from None
    return RpcFront(services, room, http)


def create_access(settings: Settings, metrics: Metrics) -> Access | None:
    """Wire who is let in, the keys not read; None where nobody is asked for a key."""
    return None if settings.access.keys_file is None else Access(settings.access.keys_file, metrics)


class Service(FastAPI):
    """FastAPI, and in front of it the routes that do without: its layers cost more than reading a small image.

    What `add_middleware` adds is not called for these; what must hold for them as well has to wrap both.
    """

    direct: Mapping[tuple[str, str], ASGIApp] = {}
    """By method and path."""
    public_root = ""
    """Where a proxy offers the service: taken off each path, so that all that is inside knows its own paths alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        app = None
        if scope["type"] == "http":
            scope["path"] = own_path(scope["path"], self.public_root)
            app = self.direct.get((scope["method"], scope["path"]))
        await (super().__call__ if app is None else app)(scope, receive, send)


@asynccontextmanager
async def _listening(rpc: "RpcFront | None") -> AsyncIterator[None]:
    if rpc is None:
        yield
        return
    await rpc.start()
    try:
        yield
    finally:
        await rpc.stop()


def create_app(settings: Settings, new_backend: NewBackend | None = None) -> Service:
    """Wire the service as an ASGI application; its lifespan starts and stops it.

    The port opens before the first device is warm: until then `/healthz` answers and `/readyz` says 503. A device that
    cannot start leaves its error in `app.state.services.restorer.failure`.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = Metrics(registry)
    tracing = create_tracing(version()) if settings.tracing else None
    restorer = create_restorer(settings, metrics, new_backend)
    access = create_access(settings, metrics)
    jobs = create_jobs(settings.jobs, restorer, metrics, access)
    succession = create_succession(settings, restorer, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        codec.silence_decoder_messages()
        reserve_workspace()
        bound_thread_pools(available_cores())
        if access is not None:
            access.open()
        for device, read in gpu_readers(settings.backend.device_names).items():
            metrics.watch_gpu(device, read)
        if tracing is not None:
            tracing.start()
        if jobs is not None:
            await jobs.start()
        starting = asyncio.create_task(restorer.start())
        watching = None if succession is None else asyncio.create_task(succession.run(starting))
        async with _listening(rpc):
            yield
            if jobs is not None:
                await jobs.stop()
            await restorer.stop(settings.http.drain_timeout_s)
        if watching is not None:
            watching.cancel()
        with suppress(Exception, asyncio.CancelledError):  # kept as restorer.failure, for whoever runs the app
            starting.cancel()
            await starting
        if tracing is not None:
            tracing.stop(SEND_TRACES_S)

    app = Service(
        title="PromptIR Serve",
        description=DESCRIPTION,
        version=version(),
        lifespan=lifespan,
        # The viewer is the page's own, and redirects would lead to whatever Host says.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.public_root = settings.http.root_path or ""
    app.state.services = services = Services(restorer, metrics, settings, version(), jobs, access)
    app.state.room = room = _add_routes(app, services, tracing)
    # Its answers do not pass the layer that lets pages of other origins read them.
    app.state.shedder = None if settings.access.cors_origins else LoadShedder(restorer, metrics)
    app.state.rpc = rpc = create_rpc(settings.http, services, room)
    openapi.install(app, app.public_root, asks_for_keys=access is not None)
    return app


def _add_routes(app: Service, services: Services, tracing: Tracing | None) -> UploadRoom:
    """Add the fronts over HTTP; what they answer with is the memory for uploads, which others share."""
    restore = RestoreRoute(services)
    submit = SubmitRoute(services, restore.room)
    layers = layers_of(services, tracing)
    app.add_middleware(Methods)
    for layer in layers:
        app.add_middleware(layer)
    app.direct = {
        (METHOD, PATH): within(layers, restore),
        (SUBMIT_METHOD, schemas.PATH): within(layers, submit),
    }
    error_responses.install(app)
    app.router.routes.insert(0, Route(PATH, restore, methods=[METHOD], include_in_schema=False))
    app.router.routes.insert(1, Route(schemas.PATH, submit, methods=[METHOD], include_in_schema=False))
    app.router.routes[:0] = Page().routes()
    app.include_router(router)
    app.include_router(jobs_router)
    app.include_router(health_router)
    open_inference.install(app, services, restore.room)
    return restore.room


def version() -> str:
    """The version of the installed distribution."""
    try:
        return importlib.metadata.version("promptir-serve")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0+checkout"
