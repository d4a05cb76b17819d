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
│   ├── MemoryShort            the process got no more memory
│   ├── Draining               the server is stopping
│   └── NotReady               the server is starting, or has no healthy backend
├── JobError
│   ├── UnknownJob             no job has this id
│   ├── JobUnfinished          a result is asked for that is not there, yet or at all
│   ├── JobExpired             the result was kept for its time
│   ├── JobInterrupted         the server ended again and again while the job ran
│   ├── JobsOff                the server keeps no jobs
│   ├── DiskFull               the disk or the budget does not hold the job at all
│   ├── JobDamaged             its upload or result was changed or removed on the disk
│   └── JobsUnavailable        the jobs folder cannot be used, at the start or until it is repaired
├── DeadlineExceeded           the caller's deadline passed before the job ran
└── BackendError               the backend failed a run
    ├── DeviceOutOfMemory      a run needs more memory than the device has free
    ├── UnsupportedSize        the backend takes no image of this size
    ├── BackendLost            the backend's thread or device is gone, or does not answer
    ├── WrongOutput            a run answered with the wrong count, shape or type, or with non-finite values
    └── BackendUnavailable     start-up only: library missing, artifact mismatch, provider missing

Each class carries `slug` (the problem type) and `title`; the HTTP status of each is one table in the API.
"""

from server.errors.access import AccessError, Forbidden, KeysUnavailable, Unauthorized
from server.errors.backend import (
    BackendError,
    BackendLost,
    BackendUnavailable,
    DeviceOutOfMemory,
    UnsupportedSize,
    WrongOutput,
)
from server.errors.job import (
    DiskFull,
    JobDamaged,
    JobError,
    JobExpired,
    JobInterrupted,
    JobsOff,
    JobsUnavailable,
    JobUnfinished,
    UnknownJob,
)
from server.errors.refusal import (
    DeadlineExceeded,
    DeadlineUnmet,
    Draining,
    JobsFull,
    MemoryShort,
    NotReady,
    QueueFull,
    QuotaExceeded,
    Refused,
)
from server.errors.request import (
    EmptyUpload,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    NotAcceptable,
    UndecodableImage,
    UnknownModel,
    UnsupportedEncoding,
    UnsupportedImage,
    UploadStalled,
)
from server.errors.root import PromptIRServeError

__all__ = [
    "AccessError",
    "BackendError",
    "BackendLost",
    "BackendUnavailable",
    "DeadlineExceeded",
    "DeadlineUnmet",
    "DeviceOutOfMemory",
    "DiskFull",
    "Draining",
    "EmptyUpload",
    "Forbidden",
    "ImageTooLarge",
    "InvalidImage",
    "InvalidRequest",
    "JobDamaged",
    "JobError",
    "JobExpired",
    "JobInterrupted",
    "JobUnfinished",
    "JobsFull",
    "JobsOff",
    "JobsUnavailable",
    "KeysUnavailable",
    "MemoryShort",
    "NotAcceptable",
    "NotReady",
    "PromptIRServeError",
    "QueueFull",
    "QuotaExceeded",
    "Refused",
    "Unauthorized",
    "UndecodableImage",
    "UnknownJob",
    "UnknownModel",
    "UnsupportedEncoding",
    "UnsupportedImage",
    "UnsupportedSize",
    "UploadStalled",
    "WrongOutput",
]
