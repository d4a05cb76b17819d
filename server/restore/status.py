"""The Status: where the service is in its life, and how it refuses while it takes nothing."""

from enum import StrEnum

from server.errors import Draining, NotReady, Refused


class Status(StrEnum):
    """Where the service is in its life; restorations are taken in `READY` only."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"

    @property
    def refusal(self) -> Refused:
        """What a request is refused with, in any status but READY."""
        if self is Status.DRAINING:
            return Draining("The server is stopping: it finishes what it accepted and takes nothing new.")
        if self is Status.STARTING:
            return NotReady("The server is starting: its backend is not warmed up yet.")
        return NotReady("The server has no working backend.")
