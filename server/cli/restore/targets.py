"""Targets of a restore run: this process or a server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from prometheus_client import CollectorRegistry

from server.cli.restore.files import check_free, read, write
from server.cli.restore.inputs import Input
from server.cli.restore.verdict import UNKNOWN, verdict
from server.errors import InvalidRequest, PromptIRServeError, QueueFull
from server.formats import codec
from server.metrics import Metrics
from server.restore.options import RestoreOptions
from server.restore.request import RestoreRequest
from server.settings import Settings
from server.wiring import create_restorer

if TYPE_CHECKING:
    from promptir_client import AsyncClient
    from promptir_client import RestoreOptions as ClientOptions

# All images are finished by then; only after Ctrl-C may a run still be active.
RELEASE_TIMEOUT_S = 5.0
# This process itself empties its queue, so it retries sooner than the predicted time.
LONGEST_LOOK_S = 2.0
LOOK_S = 5.0
"""Timeout of the first check that a server is reachable."""


class RunEnded(Exception):  # noqa: N818 - it says what happened
    """Ends the run, because every other photo would fail too; it can be resumed."""


class ServerLost(RunEnded):
    """Ends the run because the server no longer answers; it may come back."""


@dataclass(frozen=True, slots=True)
class Result:
    """A restored file, and in a few words what was done to the photo."""

    data: bytes
    verdict: str = UNKNOWN


class RestoreTarget(Protocol):
    """Restores photos; an async context manager."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def restore(self, data: bytes, options: RestoreOptions) -> Result:
        """Restore a file; raises PromptIRServeError, or RunEnded if every other photo would fail too."""


class LocalTarget:
    """Restores photos with a Restorer in this process."""

    def __init__(self, settings: Settings) -> None:
        self._restorer = create_restorer(settings, Metrics(CollectorRegistry()))

    async def __aenter__(self) -> Self:
        codec.silence_decoder_messages()
        try:
            await self._restorer.start()
        except BaseException:
            await self._restorer.stop(0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._restorer.stop(RELEASE_TIMEOUT_S)

    async def restore(self, data: bytes, options: RestoreOptions) -> Result:
        reported = replace(options, report=True)
        while True:
            try:
                restored = await self._restorer.restore(data, RestoreRequest(reported))
            except QueueFull as full:
                await asyncio.sleep(min(LONGEST_LOOK_S, full.retry_after_s))
            else:
                break
        if restored.report is None:
            return Result(restored.data)
        return Result(restored.data, verdict(restored.report.change.mean_abs, restored.degradations))


class ServerTarget:
    """Restores photos with a server, through the client and its retries; raises OSError if it is not reachable."""

    def __init__(self, url: str, connect: Callable[[], "AsyncClient"]) -> None:
        self._url = url
        self._connect = connect

    async def __aenter__(self) -> Self:
        self._client = self._connect()
        try:
            await self._look()
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def _look(self) -> None:
        """Check that the server is reachable; the client's retries are for a server that is lost during the run."""
        import httpx

        try:
            async with httpx.AsyncClient(timeout=LOOK_S) as http:
                await http.get(f"{self._url.rstrip('/')}/healthz")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = str(error) or "it accepts no connection"
            raise OSError(f"no server answers at {self._url}: {reason}") from error
        except httpx.TransportError:
            return  # a slow server is reachable: the retries handle it

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def restore(self, data: bytes, options: RestoreOptions) -> Result:
        from promptir_client import (
            Forbidden,
            NotFound,
            PromptIRError,
            TimedOut,
            TooManyRequests,
            Unauthorized,
            Unavailable,
            Unreachable,
        )

        named = {name: value for name, value in replace(options, report=True).named().items() if value is not None}
        asked: ClientOptions = {**named, "priority": "batch"}  # type: ignore[typeddict-item]
        try:
            restored = await self._client.restore(data, **asked)
        except (Unauthorized, Forbidden, NotFound) as error:  # a key or a model that the server does not know
            raise RunEnded(str(error)) from error
        except Unreachable as error:
            raise ServerLost(f"{self._url} no longer answers: {error}") from error
        except (TooManyRequests, Unavailable, TimedOut) as error:  # after the client's own retries
            raise QueueFull(str(error), LONGEST_LOOK_S) from error
        except PromptIRError as error:
            raise PromptIRServeError(str(error)) from error
        if (report := restored.report) is None:
            return Result(restored.data)
        return Result(restored.data, verdict(report.change.mean_abs, report.degradations))


async def restore_input(target: RestoreTarget, item: Input, options: RestoreOptions, *, overwrite: bool) -> str:
    """Read, restore and write one input; returns its verdict. Raises PromptIRServeError and OSError.

    If the run is cancelled during the write, the write is finished first, so that its result counts.
    """
    check_free(item.destination, overwrite=overwrite, can_skip=True)
    data = await asyncio.to_thread(read, item.source)
    if not data:
        raise InvalidRequest("the file is empty")
    restored = await target.restore(data, replace(options, output=item.output))
    writing = asyncio.create_task(asyncio.to_thread(write, item.destination, restored.data, overwrite=overwrite))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await writing
    return restored.verdict
