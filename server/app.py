"""The composition root: wires the parts of the server, and takes those without HTTP from `server.wiring`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Route

from server.access.access import Access
from server.backends.nvml import gpu_readers
from server.concurrency import available_cores, bound_thread_pools
from server.errors.memory import reserve_string_cache
from server.errors.problem import problem_of
from server.formats import codec
from server.http import error_handlers, openapi
from server.http.body.body import UploadRoom
from server.http.jobs import schemas
from server.http.jobs.routes import router as jobs_router
from server.http.jobs.submit import METHOD as SUBMIT_METHOD
from server.http.jobs.submit import SubmitRoute
from server.http.middleware.stack import middleware_of, within
from server.http.middleware.target import Methods
from server.http.open_inference import routes as open_inference
from server.http.openai.route import EditsRoute
from server.http.ops.page import Page
from server.http.ops.routes import health_router, router
from server.http.protocol.load_shedder import LoadShedder
from server.http.restore.report import ReportDocument
from server.http.restore.route import METHOD, PATH, RestoreRoute
from server.http.service import Service
from server.http.services import Services
from server.jobs.batch_store import BatchStore
from server.jobs.budget import Budget
from server.jobs.long_work import LongWork
from server.jobs.runner import Runner
from server.jobs.store_thread import StoreThread
from server.jobs.webhook_hosts import WebhookHosts
from server.jobs.webhook_sender import WebhookSender, read_secrets
from server.jobs.webhooks import Webhooks
from server.metrics import Metrics
from server.metrics.exposition import MetricsPage, page_of, process_registry
from server.restore.guide import reserve_workspace
from server.restore.options import Restored
from server.restore.pipeline import Restorer
from server.settings import PREFIX, JobSettings, Settings, SettingsError
from server.tracing import Tracing
from server.tracing import create as create_tracing
from server.wiring import NewBackends, backends_of, create_artifact_watchers, create_restorer, version

if TYPE_CHECKING:
    from server.grpc.front import RpcFront

# The time for sending the last traces at the end of the server, when all requests are answered.
SEND_TRACES_S = 3.0
DESCRIPTION = "Blind image restoration: one network finds and removes noise, rain and haze."


def create_jobs(
    settings: JobSettings, restorer: Restorer, metrics: Metrics, access: Access | None = None, root: str = ""
) -> LongWork | None:
    """Wire the jobs, not started; None if the settings give them no folder. Clients of `access` share its budget."""
    if settings.jobs_folder is None:
        return None
    budget = Budget(settings.jobs_max_bytes, lambda: () if access is None else access.clients)
    store = BatchStore(settings.jobs_folder, budget, settings.jobs_keep_hours * 3600)
    thread = StoreThread()

    def describe(restored: Restored) -> dict[str, object]:
        return ReportDocument.of(restored).model_dump(mode="json")

    runner = Runner(store, thread, restorer, problem_of, describe)
    return LongWork(store, thread, runner, metrics, create_webhooks(settings, store, thread, metrics, root))


def create_webhooks(
    settings: JobSettings, store: BatchStore, thread: StoreThread, metrics: Metrics, root: str
) -> Webhooks | None:
    """Wire the webhooks, not started; None if the settings allow no host. Raises SettingsError for bad secrets."""
    if settings.webhook_secret_file is None:
        return None
    try:
        sender = WebhookSender(WebhookHosts(settings.webhook_hosts), read_secrets(settings.webhook_secret_file))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{PREFIX}WEBHOOK_HOSTS, {PREFIX}WEBHOOK_SECRET_FILE: {error}") from None

    return Webhooks(store, thread, sender, partial(schemas.webhook_document, root=root), metrics)


def create_rpc(services: Services, room: UploadRoom) -> "RpcFront | None":
    """Wire gRPC, not started; None if the settings give it no port. Raises SettingsError without its packages."""
    if services.settings.http.grpc_port is None:
        return None
    try:
        from server.grpc.front import RpcFront
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{PREFIX}GRPC_PORT: {error.name} is not installed; install the extra: pip install 'promptir-serve[grpc]'"
        ) from None
    access, metrics = services.access, services.metrics
    return RpcFront(services.settings, services.restorer, access, metrics, room, services.version)


def create_access(settings: Settings, metrics: Metrics) -> Access | None:
    """Wire the API keys, not read yet; None if the settings name no file of them."""
    return None if settings.access.keys_file is None else Access(settings.access.keys_file, metrics)


def create_app(
    settings: Settings,
    new_backends: NewBackends = backends_of,
    metrics_page: MetricsPage | None = None,
    *,
    opens_when_ready: bool = False,
) -> Service:
    """Wire the service as an ASGI application; its lifespan starts and stops it.

    `metrics_page` replaces the page of its own metrics.

    The port opens before the first device is warm, unless `opens_when_ready`: until then `/healthz` answers and
    `/readyz` says 503. A device that cannot start leaves its error in `app.state.services.restorer.failure`.
    """
    metrics = Metrics(process_registry())
    tracing = create_tracing(version()) if settings.tracing else None
    restorer = create_restorer(settings, metrics, new_backends)
    access = create_access(settings, metrics)
    jobs = create_jobs(settings.jobs, restorer, metrics, access, settings.http.root_path or "")
    watchers = create_artifact_watchers(settings, restorer, metrics, new_backends)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _prepare_process(settings, metrics)
        if access is not None:
            access.open()
        async with AsyncExitStack() as parts:
            if tracing is not None:
                tracing.start()
                parts.callback(tracing.stop, SEND_TRACES_S)
            if jobs is not None:
                await jobs.start()
            starting = asyncio.create_task(restorer.start())
            if opens_when_ready:
                await asyncio.wait([starting])
            watching = [asyncio.create_task(watcher.run(starting)) for watcher in watchers]
            if rpc is not None:
                await rpc.start()
                parts.push_async_callback(rpc.stop)
            yield
            if jobs is not None:
                await jobs.stop()
            await restorer.stop(settings.http.drain_timeout_s)
            for task in watching:
                task.cancel()
            with suppress(Exception, asyncio.CancelledError):  # restorer.failure keeps it for the command line
                starting.cancel()
                await starting

    app = Service(title="PromptIR Serve", description=DESCRIPTION, version=version(), lifespan=lifespan)
    app.public_root = settings.http.root_path or ""
    app.state.services = services = Services(
        restorer, metrics, metrics_page or partial(page_of, metrics.registry), settings, version(), jobs, access
    )
    app.state.room = room = _add_routes(app, services, tracing)
    # Its answers do not pass the CORS middleware.
    app.state.shedder = None if settings.access.cors_origins else LoadShedder(restorer, metrics)
    app.state.rpc = rpc = create_rpc(services, room)
    openapi.install(app, app.public_root, asks_for_keys=access is not None)
    return app


def _prepare_process(settings: Settings, metrics: Metrics) -> None:
    codec.silence_decoder_messages()
    reserve_workspace()
    reserve_string_cache()
    bound_thread_pools(available_cores())
    for device, read in gpu_readers(settings.backend.device_names).items():
        metrics.watch_gpu(device, read)


def _add_routes(app: Service, services: Services, tracing: Tracing | None) -> UploadRoom:
    """Add the routes of HTTP; returns the room for uploads, which gRPC shares."""
    restore = RestoreRoute(services)
    submit = SubmitRoute(services, restore.room)
    edits = EditsRoute(services, restore.room)
    stack = middleware_of(services, tracing)
    app.add_middleware(Methods)
    for middleware in stack:
        app.add_middleware(middleware)
    app.direct = {
        (METHOD, PATH): within(stack, restore),
        (SUBMIT_METHOD, schemas.PATH): within(stack, submit),
        (METHOD, edits.path): within(stack, edits),
    }
    error_handlers.install(app)
    app.router.routes.insert(0, Route(PATH, restore, methods=[METHOD], include_in_schema=False))
    app.router.routes.insert(1, Route(schemas.PATH, submit, methods=[METHOD], include_in_schema=False))
    app.router.routes.insert(2, Route(edits.path, edits, methods=[METHOD], include_in_schema=False))
    app.router.routes[:0] = Page().routes()
    app.include_router(router)
    app.include_router(jobs_router)
    app.include_router(health_router)
    open_inference.install(app, services, restore.room)
    return restore.room
