"""Shedding protocol: a connection that refuses restorations at their head while there is no room."""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from server.http.body.refusal import DROPPED_BYTES
from server.http.protocol.connection import BoundedProtocol
from server.http.protocol.load_shedder import LoadShedder
from server.http.restore.route import PATH


class _Refused:
    """Stands in for uvicorn's current exchange: this one has its answer already."""

    response_started = response_complete = True

    class message_event:  # noqa: N801 - named by uvicorn, which sets it when the connection is lost
        """Nobody waits for more of it."""

        @staticmethod
        def set() -> None:
            """Nothing to tell."""


REFUSED = cast(RequestResponseCycle, _Refused())


class SheddingProtocol(BoundedProtocol):
    """Asks a `LoadShedder` at the head of each restoration; a refusal costs no task, and no line in the log.

    The body of a refused request is dropped as it arrives, and the connection stays open. Requests with larger bodies,
    and clients that send `Expect: 100-continue`, are answered by the route.
    """

    _dropping = False

    def __init__(self, *arguments: Any, shedder: LoadShedder | None, public_root: str = "", **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._shedder = shedder
        self._targets = (PATH.encode(), (public_root + PATH).encode())

    def on_message_complete(self) -> None:
        """End a request, refused or not, at the end of its body."""
        super().on_message_complete()
        if self._dropping:
            self._dropping = self._in_head = False
            self.on_response_complete()

    def refuse_for_memory(self) -> None:
        """Close the connection, with 503 unless the request is refused already."""
        if self._dropping:
            self.transport.close()
        else:
            super().refuse_for_memory()

    def _is_refused(self) -> bool:
        if (answer := self._refusal()) is None:
            return False
        self._dropping = True
        self.cycle = REFUSED
        self.transport.writelines([answer])
        return True

    def _refusal(self) -> bytes | None:
        url, parser = self.url, self.parser
        if self._shedder is None or not url.startswith(self._targets):
            return None
        declared = self._declared
        may_be_shed = (
            url.partition(b"?")[0] in self._targets
            and parser.get_method() == b"POST"
            and declared is not None
            and declared <= DROPPED_BYTES
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.flow.write_paused  # a client that does not read its refusals gets no more of them
            and not self.pipeline
            and (self.cycle is None or self.cycle.response_complete)
        )
        return self._shedder.refusal(self.headers, declared or 0) if may_be_shed else None

    def _head_is_late(self) -> None:
        if self._dropping:
            self.transport.close()
        else:
            super()._head_is_late()
