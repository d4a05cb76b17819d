"""Refusals: nothing is wrong with the request, but it is not taken now, or no longer in time."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from server.errors.root import PromptIRServeError


class Refused(PromptIRServeError):
    """The request is fine, but is not taken now.

    `retry_after_s` is the predicted number of seconds until it would be, where that is known.
    """

    slug = "refused"
    title = "Refused"
    retry_after_s: float | None = None


class QueueFull(Refused):
    """The queue has no room; `retry_after_s` predicts when it will."""

    slug = "queue-full"
    title = "Queue full"
    retry_after_s: float

    def __init__(self, detail: str, retry_after_s: float, **extensions: object) -> None:
        super().__init__(detail, **extensions)
        self.retry_after_s = retry_after_s


class DeadlineUnmet(QueueFull):
    """What was admitted before would outlast the deadline; `retry_after_s` predicts when it would not."""

    slug = "deadline-unmet"
    title = "Deadline cannot be met"


class JobsFull(QueueFull):
    """The jobs that are kept leave no room for another; `retry_after_s` says when the next result expires."""

    slug = "jobs-full"
    title = "No room for jobs"


class QuotaExceeded(Refused):
    """The API key has had its requests or pixels of a minute; `retry_after_s` says when there are enough again."""

    slug = "quota-exceeded"
    title = "Quota exceeded"
    retry_after_s: float

    def __init__(self, detail: str, retry_after_s: float, **extensions: object) -> None:
        super().__init__(detail, **extensions)
        self.retry_after_s = retry_after_s


class Draining(Refused):
    """The server finishes what it accepted and takes nothing new."""

    slug = "draining"
    title = "Draining"


class NotReady(Refused):
    """No backend is ready to run."""

    slug = "not-ready"
    title = "Not ready"


class MemoryShort(Refused):
    """The process got no more memory for the request."""

    slug = "memory-short"
    title = "Memory short"


class DeadlineExceeded(PromptIRServeError):
    """The deadline passed while the job was waiting."""

    slug = "deadline-exceeded"
    title = "Deadline exceeded"
