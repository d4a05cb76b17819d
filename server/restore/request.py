"""The RestoreRequest: one restoration from its first bytes to its end, and all that the server reserves for it."""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from server.access.caller import Caller
from server.formats.header import Header
from server.formats.output import OutputFormat
from server.imaging.tiling import Grid
from server.restore.byte_room import Reservation
from server.restore.codec_pool import CodecWork
from server.restore.options import RestoreOptions
from server.scheduling.admission.admission import Ticket
from server.scheduling.queue.tile import PaddedShape, Priority

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class RestoreRequest:
    """What a client asks for, and what each step adds: header and grid when inspected, a ticket when admitted.

    A context manager: its exit gives back whatever the request still holds. `deadline` is in seconds on the clock of
    the Restorer.
    """

    options: RestoreOptions = field(default_factory=RestoreOptions)
    deadline: float | None = None
    priority: Priority = Priority.INTERACTIVE
    caller: Caller | None = None
    """Who pays for it; None if the server asks for no keys, or if it was paid for before."""
    upload: Reservation | None = None
    """The bytes of the upload; given back once the image is decoded."""
    model: str = ""
    """The name of the model that restores it, once inspected or admitted."""
    header: Header | None = None
    grid: Grid | None = None
    ticket: Ticket | None = None
    """Device seconds and pixels of the queue, from admission until the tiles are submitted."""
    codec_work: CodecWork | None = None
    """Seconds of the codec threads, from admission to the end; None for a small image, which needs no thread."""
    _charged: bool = False
    _held: list[AbstractContextManager[Any]] = field(default_factory=list)
    _lapse: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.keep_ticket()
        self._give_back(kind, error, traceback)
        self.release_upload()

    def close(self) -> None:
        """Give back whatever the request still holds; further calls do nothing."""
        self.__exit__(None, None, None)

    @property
    def planned(self) -> Grid:
        """The grid of its runs, once there is one."""
        if self.grid is None:
            raise RuntimeError("the runs of the request are not planned yet")
        return self.grid

    @property
    def admitted(self) -> Ticket:
        """Its ticket, once there is one."""
        if self.ticket is None:
            raise RuntimeError("the request is not admitted yet")
        return self.ticket

    @property
    def shape(self) -> PaddedShape:
        """The padded shape of its tiles."""
        return PaddedShape(*self.planned.tile_shape, self.model)

    def output_for(self, input_format: str) -> OutputFormat:
        """The file format of the answer to an upload of `input_format`."""
        return OutputFormat.same_as(input_format) if self.options.output is None else self.options.output

    def hold(self, reserved: AbstractContextManager[T]) -> T:
        """Enter a context manager that the exit of the request leaves, and that never suppresses or raises an error."""
        entered = reserved.__enter__()
        self._held.append(reserved)
        return entered

    def charge(self, pixels: int) -> None:
        """Charge the caller for the image, once; raises QuotaExceeded."""
        if self.caller is not None and not self._charged:
            self.caller.charge_pixels(pixels)
            self._charged = True

    @property
    def owes(self) -> bool:
        """Whether its caller is still to be charged for the image."""
        return self.caller is not None and not self._charged

    def lapse_after(self, seconds: float) -> None:
        """Give the ticket back after `seconds` unless `keep_ticket` is called: a slow upload must not block others."""
        self._lapse = asyncio.get_running_loop().call_later(seconds, self._give_up_ticket)

    def keep_ticket(self) -> None:
        """Let the ticket lapse no more: the upload is whole."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None

    def release_upload(self) -> None:
        """Give back the bytes of the upload: they are no longer held."""
        if self.upload is not None:
            self.upload.release()

    def _give_up_ticket(self) -> None:
        self._lapse = None
        self._give_back(None, None, None)

    def _give_back(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ticket = self.codec_work = None
        while self._held:
            self._held.pop().__exit__(kind, error, traceback)
