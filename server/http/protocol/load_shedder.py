"""Load shedding: refuses restorations before they become requests of the application, while there is no room."""

import asyncio
import json
import logging
import time
from collections.abc import Collection

from server.errors import QueueFull
from server.errors.problem import problem_of, retry_after
from server.http.middleware.request_context import request_id_of
from server.metrics import Metrics
from server.restore.pipeline import Restorer
from server.scheduling.admission.backlog import MIN_RETRY_AFTER_S

log = logging.getLogger(__name__)

# The interval at which one line of the log counts the refusals: a line each would cost more than the refusal.
REPORT_S = 1.0
# Requests that arrive at once may keep the loop busy for this long, and for this share of the bound on the backlog.
LONGEST_TURN_S, TURN_SHARE = 0.5, 0.25
# Only turns with this many requests tell what one takes; it is averaged over about this many turns.
TELLING_REQUESTS, RECENT_TURNS = 16, 4
_HEAD = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
    b"retry-after: %d\r\nx-request-id: %b\r\nserver-timing: total;dur=%.2f\r\n"
    b"x-content-type-options: nosniff\r\ncache-control: private\r\n\r\n"
)


class LoadShedder:
    """Refuses restorations while there is no room for an image of the usual size.

    The route would refuse them at ten times the cost, and a server that receives more than it can even refuse has no
    time left for what it admitted. There is no room while admitted work fills the backlog, or while more requests have
    arrived than the loop can read in a moment. Requests of the present turn of the loop count as well: they hold no
    tickets yet. Belongs to the event loop.
    """

    def __init__(self, restorer: Restorer, metrics: Metrics) -> None:
        self._restorer = restorer
        self._metrics = metrics
        self._longest_turn_s = min(LONGEST_TURN_S, TURN_SHARE * restorer.max_backlog_s)
        self._passed = [0, 0]  # in this turn of the loop, and in the last one
        self._turn_began: float | None = None
        self._request_s = 0.0
        self._refused = 0

    def refusal(self, headers: Collection[tuple[bytes, bytes]], upload_bytes: int) -> bytes | None:
        """Return the whole answer to a refused restoration; None for one that may pass, which is counted."""
        began = time.perf_counter()
        try:
            self._check(upload_bytes)
        except QueueFull as error:
            return self._answer(error, request_id_of(headers), began)
        self._passed[0] += 1
        if self._turn_began is None:
            self._turn_began = began
            asyncio.get_running_loop().call_soon(self._turn)
        return None

    def _check(self, upload_bytes: int) -> None:
        arriving = sum(self._passed)
        if (reading_s := arriving * self._request_s) > self._longest_turn_s:
            with self._metrics.refusals:
                detail = f"to read the {arriving} requests that came at once takes {reading_s:.2f} s already"
                raise QueueFull(detail, MIN_RETRY_AFTER_S)
        # Those of the last turn hold tickets by now, or are admitted exactly a moment later: never counted twice.
        self._restorer.admit_any(self._passed[0], upload_bytes)

    def _turn(self) -> None:
        now, (current, last) = time.perf_counter(), self._passed
        if self._turn_began is not None and last >= TELLING_REQUESTS:
            self._request_s += ((now - self._turn_began) / last - self._request_s) / RECENT_TURNS
        self._passed = [0, current]
        self._turn_began = now if current else None
        if current:
            asyncio.get_running_loop().call_soon(self._turn)

    def _answer(self, error: QueueFull, request_id: str, began: float) -> bytes:
        self._metrics.count_request(429, error.slug)
        if not self._refused:
            asyncio.get_running_loop().call_later(REPORT_S, self._report)
        self._refused += 1
        seconds = retry_after(error)
        content = json.dumps(problem_of(error, f"urn:promptir:request:{request_id}")).encode()
        return _HEAD % (len(content), seconds, request_id.encode(), (time.perf_counter() - began) * 1e3) + content

    def _report(self) -> None:
        refused, self._refused = self._refused, 0
        log.info("requests were refused at their head, there was no room", extra={"refused": refused})
