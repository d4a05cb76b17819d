"""The composition root: the only place where the parts of the server are wired together."""

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from server import backends
from server.api import error_responses
from server.api.request_context import RequestContext
from server.api.routes import router
from server.api.schemas import Problem
from server.api.services import Services
from server.backends.base import Backend
from server.batching.batcher import Batcher
from server.batching.job_queue import JobQueue
from server.batching.recovery import ParityCheck
from server.batching.worker import Worker
from server.imaging import codec
from server.metrics import Metrics
from server.restorer import Restorer
from server.settings import Settings

DESCRIPTION = "Blind image restoration: one network finds and removes noise, rain and haze."


def create_restorer(settings: Settings, metrics: Metrics, backend: Backend | None = None) -> Restorer:
    """Wire the use case, not started; `backend` takes the place of the one that the settings name."""
    batching = settings.batching
    clock = time.monotonic
    batcher = Batcher(
        JobQueue(batching.max_queued_jobs, batching.max_queued_pixels),
        batching.max_batch,
        metrics,
        clock,
        max_run_pixels=settings.limits.max_run_pixels,
    )
    backend = backend or backends.create(settings.backend, batching.max_batch)
    check = ParityCheck(settings.backend.fp32_check_every, settings.backend.fp32_gate_db)
    worker = Worker(backend, batcher, metrics, clock, check=check)
    return Restorer(batcher, worker, settings.limits, metrics, clock)


def create_app(settings: Settings, backend: Backend | None = None) -> FastAPI:
    """Wire the service as an ASGI application; its lifespan starts and stops it.

    The port opens before the backend is warm: until then `/healthz` answers and `/readyz` says 503. A backend that
    cannot start leaves its error in `app.state.services.restorer.failure`.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = Metrics(registry)
    restorer = create_restorer(settings, metrics, backend)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        codec.quieten()
        starting = asyncio.create_task(restorer.start())
        yield
        await restorer.stop(settings.http.drain_timeout_s)
        with suppress(Exception, asyncio.CancelledError):  # kept as restorer.failure, for whoever runs the app
            starting.cancel()
            await starting

    app = FastAPI(title="PromptIR Serve", description=DESCRIPTION, version=version(), lifespan=lifespan)
    app.state.services = Services(restorer, metrics, settings.limits, version())
    app.add_middleware(RequestContext, metrics=metrics, on_crash=error_responses.unexpected)
    error_responses.install(app)
    app.include_router(router)
    _document_problems(app)
    return app


def version() -> str:
    """The version of the installed distribution."""
    try:
        return importlib.metadata.version("promptir-serve")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0+checkout"


def _document_problems(app: FastAPI) -> None:
    # FastAPI offers a response model under application/json only, so the routes refer to a schema that is put here.
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
