"""The error tree of the server.

PromptIRServeError
├── InvalidRequest             the request itself is malformed (multipart without the field `file`, a bad parameter)
│   ├── NotAcceptable          none of the formats in Accept is written
│   ├── UnknownModel           no model has this name, or this version
│   └── UnsupportedEncoding    the body is compressed in a way that is not read
├── AccessError
│   ├── Unauthorized           no API key, or one that is not known
│   ├── Forbidden              the key is known and suspended
│   └── KeysUnavailable        start-up only: the keys file cannot be used
├── UploadStalled              the body comes too slowly, or no longer
├── InvalidImage
│   ├── EmptyUpload            no bytes at all
│   ├── UnsupportedImage       not an image, or a format the codec does not read
│   ├── UndecodableImage       an image that breaks while it is decoded
│   └── ImageTooLarge          too many bytes, pixels, or too long a side
├── Refused                    nothing wrong with the request; not now
│   ├── QueueFull              knows the seconds until there is room
│   │   ├── DeadlineUnmet      what waits ahead leaves too little time; later it would not
│   │   └── JobsFull           stored jobs and their results take up all that they may have
│   ├── QuotaExceeded          the key has had what it may have in a minute
│   ├── Draining               the server is stopping
│   └── NotReady               the server is starting, or has no healthy backend
├── JobError
│   ├── UnknownJob             no job has this id
│   ├── JobUnfinished          a result is asked for that is not there, yet or at all
│   ├── JobExpired             the result was kept for its time
│   ├── JobInterrupted         the server ended again and again while the job ran
│   ├── JobsOff                the server keeps no jobs
│   ├── DiskFull               the disk or the budget does not hold the job at all
│   └── JobsUnavailable        start-up only: the jobs folder cannot be used
├── DeadlineExceeded           the caller's deadline passed before the job ran
└── BackendError               the backend failed a run
    ├── DeviceOutOfMemory      a run needs more memory than the device has free
    ├── UnsupportedSize        the backend takes no image of this size
    ├── BackendLost            the backend's thread or device is gone, or does not answer
    ├── WrongOutput            a run answered with the wrong count, shape or type, or with non-finite values
    └── BackendUnavailable     start-up only: library missing, artifact mismatch, provider missing

Each class carries `slug` (the problem type) and `title`; the HTTP status of each is one table in the API.
"""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from typing import ClassVar


class PromptIRServeError(Exception):
    """Root of the tree.

    `detail` is a sentence for the client. `extensions` are further members of the RFC 9457 problem document,
    for example `allowed_formats` or `max_image_pixels`.
    """

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **extensions: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extensions = extensions


class InvalidRequest(PromptIRServeError):
    """The request is malformed before any image is looked at."""

    slug = "invalid-request"
    title = "Invalid request"


class NotAcceptable(InvalidRequest):
    """The Accept header wants no kind of answer that there is."""

    slug = "not-acceptable"
    title = "Not acceptable"


class UnknownModel(InvalidRequest):
    """No model has this name, or the model has no such version."""

    slug = "unknown-model"
    title = "Unknown model"


class UnsupportedEncoding(InvalidRequest):
    """The Content-Encoding of the body is none that is read."""

    slug = "unsupported-encoding"
    title = "Unsupported encoding"


class AccessError(PromptIRServeError):
    """The server asks for API keys, and this is about them."""

    slug = "access-error"
    title = "Access error"


class Unauthorized(AccessError):
    """The request has no API key, or one that the server does not know."""

    slug = "unauthorized"
    title = "Unauthorized"


class Forbidden(AccessError):
    """The API key is known, and suspended."""

    slug = "forbidden"
    title = "Forbidden"


class KeysUnavailable(AccessError):
    """The keys file cannot be used; the detail says why."""

    slug = "keys-unavailable"
    title = "Keys unavailable"


class UploadStalled(PromptIRServeError):
    """The body came too slowly: what it holds of the server is wanted by others."""

    slug = "upload-stalled"
    title = "Upload stalled"


class InvalidImage(PromptIRServeError):
    """The upload cannot be restored, whatever the load."""

    slug = "invalid-image"
    title = "Invalid image"


class EmptyUpload(InvalidImage):
    """The upload has no bytes."""

    slug = "empty-upload"
    title = "Empty upload"


class UnsupportedImage(InvalidImage):
    """The bytes are no image of a format the server reads."""

    slug = "unsupported-image"
    title = "Unsupported image"


class UndecodableImage(InvalidImage):
    """The format is known, but the data is truncated or corrupt."""

    slug = "undecodable-image"
    title = "Undecodable image"


class ImageTooLarge(InvalidImage):
    """The upload exceeds the limit on bytes, pixels or side."""

    slug = "image-too-large"
    title = "Image too large"


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


class DeadlineExceeded(PromptIRServeError):
    """The deadline passed while the job was waiting."""

    slug = "deadline-exceeded"
    title = "Deadline exceeded"


class JobError(PromptIRServeError):
    """A stored job cannot be given, kept or brought to its end."""

    slug = "job-error"
    title = "Job error"


class UnknownJob(JobError):
    """No job has this id."""

    slug = "unknown-job"
    title = "Unknown job"


class JobUnfinished(JobError):
    """The job has no result: it waits, runs, failed or was cancelled, as `state` says."""

    slug = "job-unfinished"
    title = "No result"


class JobExpired(JobError):
    """The job has ended and its result was kept for the stated time."""

    slug = "job-expired"
    title = "Job expired"


class JobInterrupted(JobError):
    """The server ended several times while the job ran, so it is not begun again."""

    slug = "job-interrupted"
    title = "Job interrupted"


class JobsOff(JobError):
    """The server was started without a folder to keep jobs in."""

    slug = "jobs-off"
    title = "No jobs here"


class DiskFull(JobError):
    """The disk, or all that jobs may take up of it, does not hold the job."""

    slug = "disk-full"
    title = "Disk full"


class JobsUnavailable(JobError):
    """The jobs folder cannot be used; the detail says why."""

    slug = "jobs-unavailable"
    title = "Jobs unavailable"


class BackendError(PromptIRServeError):
    """The backend failed a run; the image is not to blame as far as the server knows."""

    slug = "backend-error"
    title = "Backend error"


class DeviceOutOfMemory(BackendError):
    """The device's memory does not hold the run: as a backend raises it, a smaller run may well succeed.

    A client is told so only where its image failed all by itself. That is no refusal, since the same image will hardly
    fit later, and 503 would have clients and proxies try it again and again.
    """

    slug = "device-out-of-memory"
    title = "Device out of memory"


class UnsupportedSize(BackendError):
    """The backend takes no image of this size; `allowed_sizes` lists what it takes.

    Only a run finds out, since no one else knows what the artifact was built for; yet it is the client who can help.
    """

    slug = "unsupported-size"
    title = "Unsupported size"


class BackendLost(BackendError):
    """The worker thread ended or did not answer in time, or its device failed for good, so the run has no result."""

    slug = "backend-lost"
    title = "Backend lost"


class WrongOutput(BackendError):
    """The run ended with an output that must not be sent."""

    slug = "wrong-output"
    title = "Wrong output"


class BackendUnavailable(BackendError):
    """The backend cannot start; the detail says what to do about it."""

    slug = "backend-unavailable"
    title = "Backend unavailable"
