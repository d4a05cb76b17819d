"""The Lifecycle: from the start of the service to its end, and the requests it has accepted meanwhile."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from types import TracebackType

from server.backends.base import BackendInfo
from server.errors import BackendUnavailable, Draining, NotReady, Refused, UnknownModel
from server.metrics import Metrics
from server.restore.codec_pool import Codecs
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.worker import NewBackend

log = logging.getLogger(__name__)


LONGEST_SHOWN = 60
"""Most characters of a name from a request in an error."""


class Status(StrEnum):
    """The state of the service; it takes restorations in `READY` only."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"

    @property
    def refusal(self) -> Refused:
        """The error that refuses a request, in any status but READY."""
        if self is Status.DRAINING:
            return Draining("The server is stopping: it finishes what it accepted and takes nothing new.")
        if self is Status.STARTING:
            return NotReady("The server is starting: its backend is not warmed up yet.")
        return NotReady("The server has no working backend.")


class Lifecycle:
    """Starts and stops the devices and the codec threads, and counts the requests in between."""

    def __init__(self, models: Sequence[str], workers: WorkerPool, codecs: Codecs, metrics: Metrics) -> None:
        self.models = tuple(models)
        """The names of the models that are served, the default first."""
        self.infos: dict[str, BackendInfo] = {}
        """The backend that serves each model, from the first device that is warm; empty until then."""
        self.active = 0
        """Requests that were accepted and have not ended."""
        self._workers = workers
        self._codecs = codecs
        self._metrics = metrics
        self._draining = False
        self._stopped = False
        self._accepted = _Accepted(self)

    def model_named(self, name: str | None) -> str:
        """Return the name of a served model, by default the first; raises UnknownModel."""
        if name is None:
            return self.models[0]
        if name not in self.models:
            shown = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
            known = list(self.models)
            raise UnknownModel(f"There is no model {shown!r}; there are {', '.join(known)}.", models=known)
        return name

    @property
    def info(self) -> BackendInfo | None:
        """The backend that serves the default model; None until a device is warm."""
        return self.infos.get(self.models[0])

    def info_of(self, model: str) -> BackendInfo:
        """Return the backend that serves a model; raises NotReady until a device is warm."""
        if (info := self.infos.get(model)) is None:
            raise Status.STARTING.refusal
        return info

    @property
    def status(self) -> Status:
        if self._draining:
            return Status.DRAINING
        if not self.infos and self.failure is None:
            return Status.STARTING
        return Status.READY if self._workers.ready else Status.FAILED

    @property
    def failure(self) -> Exception | None:
        """Why the service has failed for good."""
        return self._workers.failure

    async def start(self) -> None:
        """Start the devices and return when the first is warm; raises BackendUnavailable, which `failure` keeps."""
        self._codecs.start()
        self.infos = dict(await self._workers.start())
        for model, info in self.infos.items():
            log.info("ready", extra={"model": model} | info.log_fields)

    async def replace(self, model: str, new_backend: NewBackend) -> BackendInfo:
        """Serve a model with other backends of the same network; requests are taken meanwhile, and none is lost.

        Raises BackendUnavailable if one cannot start; the devices that were not replaced by then keep theirs.
        """
        if model not in self.models:
            raise BackendUnavailable(f"no model called {model} is served")
        self.infos[model] = info = await self._workers.replace(model, new_backend)
        return info

    def drain(self) -> None:
        """Refuse new requests from now on; accepted ones continue, even if they are still being read or decoded."""
        self._draining = True

    async def stop(self, timeout_s: float) -> None:
        """Drain, give accepted requests up to `timeout_s` seconds, then release threads and backend; once."""
        self.drain()
        if self._stopped:
            return
        self._stopped = True
        await self._workers.stop(timeout_s)
        self._codecs.stop()

    def accepted(self) -> AbstractContextManager[None]:
        """Count one request as accepted in a block: a drain waits for its upload too.

        Its entry raises NotReady or Draining instead.
        """
        return self._accepted

    def _accept(self) -> None:
        if (status := self.status) is not Status.READY:
            refusal = status.refusal
            self._metrics.count_refusal(refusal.slug)
            raise refusal
        self.active += 1


class _Accepted:
    """Counts one more active request inside its block; reentrant."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def __enter__(self) -> None:
        self._lifecycle._accept()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lifecycle.active -= 1
