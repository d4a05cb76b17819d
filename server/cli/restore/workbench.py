"""Workbenches: where photos are restored, in this process or by a server."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from prometheus_client import CollectorRegistry

from server.app import create_restorer
from server.cli.restore.errands import Errand
from server.cli.restore.files import exists, read, write
from server.errors import InvalidRequest, PromptIRServeError, QueueFull
from server.imaging import codec
from server.metrics import Metrics
from server.restoration import RestoreOptions
from server.settings import Settings

if TYPE_CHECKING:
    from promptir_client import AsyncClient
    from promptir_client import RestoreOptions as ClientOptions

# All images have ended by then; only after Ctrl-C may a run still be going on.
RELEASE_TIMEOUT_S = 5.0
# A full queue empties by this process's own work: it is looked at again rather than believed for long.
LONGEST_LOOK_S = 2.0


class RunEnded(Exception):  # noqa: N818 - it says what happened
    """No other photo would fare better: the run ends here, and can be resumed."""


class Workbench(Protocol):
    """Restores photos once it is entered."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def restore(self, data: bytes, options: RestoreOptions) -> bytes:
        """The restored file. Raises PromptIRServeError; RunEnded where no other photo would fare better."""


class OwnBench:
    """A Restorer in this process."""

    def __init__(self, settings: Settings) -> None:
        self._restorer = create_restorer(settings, Metrics(CollectorRegistry()))

    async def __aenter__(self) -> Self:
        codec.quieten()
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

    async def restore(self, data: bytes, options: RestoreOptions) -> bytes:
        while True:
            try:
                return (await self._restorer.restore(data, options)).data
            except QueueFull as full:
                await asyncio.sleep(min(LONGEST_LOOK_S, full.retry_after_s))


class ServerBench:
    """A server, through the client and its retries."""

    def __init__(self, connect: Callable[[], "AsyncClient"]) -> None:
        self._connect = connect

    async def __aenter__(self) -> Self:
        self._client = self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def restore(self, data: bytes, options: RestoreOptions) -> bytes:
        from promptir_client import Forbidden, PromptIRError, Unauthorized, Unreachable

        named = {name: value for name, value in options.named().items() if value is not None}
        asked: ClientOptions = {**named, "priority": "batch"}  # type: ignore[typeddict-item]
        try:
            return (await self._client.restore(data, **asked)).data
        except (Unauthorized, Forbidden, Unreachable) as error:
            raise RunEnded(str(error)) from error
        except PromptIRError as error:
            raise PromptIRServeError(str(error)) from error


async def restore_errand(bench: Workbench, errand: Errand, options: RestoreOptions, *, overwrite: bool) -> None:
    """Read, restore, write; raises PromptIRServeError and OSError.

    A write that has begun is waited for although the run is cancelled: what is there counts.
    """
    if not overwrite and errand.target.exists():
        raise exists(errand.target)
    data = await asyncio.to_thread(read, errand.source)
    if not data:
        raise InvalidRequest("the file is empty")
    restored = await bench.restore(data, replace(options, output=errand.output))
    writing = asyncio.create_task(asyncio.to_thread(write, errand.target, restored, overwrite=overwrite))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await writing
