"""Errors of the service: refusals under load, failures of stored jobs and failures of a backend."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the names of families

from typing import ClassVar, Self


class PromptIRServeError(Exception):
    """Root of the tree.

    `detail` is a sentence for the client. `extensions` are additional members of the RFC 9457 problem document, for
    example `allowed_formats` or `max_image_pixels`.
    """

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **extensions: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extensions = extensions


class Refused(PromptIRServeError):
    """The request is valid but cannot be accepted now.

    `retry_after_s` predicts the seconds until it can be accepted; None if unknown.
    """

    slug = "refused"
    title = "Refused"
    retry_after_s: float | None = None


class QueueFull(Refused):
    """The queue is full; `retry_after_s` predicts when there will be room."""

    slug = "queue-full"
    title = "Queue full"
    retry_after_s: float

    def __init__(self, detail: str, retry_after_s: float, **extensions: object) -> None:
        super().__init__(detail, **extensions)
        self.retry_after_s = retry_after_s


class DeadlineUnmet(QueueFull):
    """The backlog leaves too little time before the deadline; `retry_after_s` predicts when that changes."""

    slug = "deadline-unmet"
    title = "Deadline cannot be met"


class JobsFull(QueueFull):
    """Stored jobs use the whole budget; `retry_after_s` is the time until the next result expires."""

    slug = "jobs-full"
    title = "No room for jobs"


class QuotaExceeded(Refused):
    """The API key has used its quota of requests or pixels; `retry_after_s` says when the quota suffices again."""

    slug = "quota-exceeded"
    title = "Quota exceeded"
    retry_after_s: float

    def __init__(self, detail: str, retry_after_s: float, **extensions: object) -> None:
        super().__init__(detail, **extensions)
        self.retry_after_s = retry_after_s


class Draining(Refused):
    """The server is shutting down: it finishes accepted requests and takes no new ones."""

    slug = "draining"
    title = "Draining"


class NotReady(Refused):
    """No backend is ready to run."""

    slug = "not-ready"
    title = "Not ready"


class MemoryShort(Refused):
    """The process could not allocate memory for the request."""

    slug = "memory-short"
    title = "Memory short"


class CodecLost(PromptIRServeError):
    """The process that decodes or encodes the image ended or hung twice; the image may be the cause."""

    slug = "codec-lost"
    title = "Codec lost"


class DeadlineExceeded(PromptIRServeError):
    """The deadline passed while the request was queued."""

    slug = "deadline-exceeded"
    title = "Deadline exceeded"

    @classmethod
    def in_queue(cls) -> Self:
        """Build the error for a tile whose deadline passed before its run."""
        return cls("the deadline passed while the image waited")


class JobError(PromptIRServeError):
    """Base class of errors about stored jobs."""

    slug = "job-error"
    title = "Job error"


class JobInterrupted(JobError):
    """The server stopped several times while the job ran, so the job is not retried."""

    slug = "job-interrupted"
    title = "Job interrupted"


class JobsOff(JobError):
    """The server was started without a jobs folder."""

    slug = "jobs-off"
    title = "No jobs here"


class DiskFull(JobError):
    """The job does not fit on the disk, or exceeds the whole budget for jobs."""

    slug = "disk-full"
    title = "Disk full"

    @property
    def is_of_budget(self) -> bool:
        """Whether the job exceeds the budget, so that freeing disk space does not help."""
        return "jobs_max_bytes" in self.extensions


class JobDamaged(JobError):
    """The stored upload or result of the job was changed or removed on the disk."""

    slug = "job-damaged"
    title = "Job damaged"


class JobsUnavailable(JobError):
    """The jobs folder currently cannot be used; the detail gives the reason."""

    slug = "jobs-unavailable"
    title = "Jobs unavailable"


class BackendError(PromptIRServeError):
    """The backend failed a run; as far as the server knows, not because of the image."""

    slug = "backend-error"
    title = "Backend error"


class DeviceOutOfMemory(BackendError):
    """The run does not fit in the device's memory; a smaller batch may.

    Clients get this error only if the image failed in a batch of one. It is not a refusal: the image is unlikely to
    fit later, and a 503 would make clients and proxies retry indefinitely.
    """

    slug = "device-out-of-memory"
    title = "Device out of memory"


class UnsupportedSize(BackendError):
    """The backend does not accept images of this size; `allowed_sizes` lists the accepted sizes.

    Raised by the run, since only the backend knows the sizes that the artifact was built for.
    """

    slug = "unsupported-size"
    title = "Unsupported size"


class BackendLost(BackendError):
    """The run has no result: the worker thread ended, the run timed out, or the device failed permanently."""

    slug = "backend-lost"
    title = "Backend lost"
    for_good = False
    """Whether this process cannot use the device again, because its CUDA context is lost."""

    @classmethod
    def until_restart(cls, detail: str) -> Self:
        """Build the error for a device that only a new process can use."""
        error = cls(detail)
        error.for_good = True
        return error


class WrongOutput(BackendError):
    """The run returned an output that must not be sent to the client."""

    slug = "wrong-output"
    title = "Wrong output"


class BackendUnavailable(BackendError):
    """The backend cannot start; the detail says how to fix it."""

    slug = "backend-unavailable"
    title = "Backend unavailable"
