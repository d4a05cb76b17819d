"""The error tree of the server.

PromptIRServeError
├── InvalidRequest             the request is malformed (multipart without the field `file`, a bad parameter)
│   ├── NotAcceptable          the server writes none of the formats in Accept
│   ├── NotOffered             a part of a protocol that this server does not implement
│   ├── UnknownModel           no model has this name or version
│   └── UnsupportedEncoding    the server does not read this Content-Encoding
├── AccessError
│   ├── Unauthorized           no API key, or an unknown one
│   ├── Forbidden              the key is known but suspended
│   └── KeysUnavailable        start-up only: the keys file cannot be used
├── UploadStalled              the body arrives too slowly or stopped arriving
├── InvalidImage
│   ├── EmptyUpload            no bytes at all
│   ├── UnsupportedImage       not an image in a supported format
│   ├── UndecodableImage       truncated or corrupt data
│   └── ImageTooLarge          too many bytes or pixels, or too long a side
├── Refused                    a valid request that cannot be accepted now
│   ├── QueueFull              carries the seconds until there is room
│   │   ├── DeadlineUnmet      the backlog leaves too little time before the deadline
│   │   └── JobsFull           stored jobs and their results use the whole budget
│   ├── QuotaExceeded          the key has used its quota for this minute
│   ├── MemoryShort            the process could not allocate memory
│   ├── Draining               the server is shutting down
│   └── NotReady               the server is starting, or has no healthy backend
├── JobError
│   ├── UnknownJob             no job has this id
│   ├── JobUnfinished          the job has no result, or not yet
│   ├── JobExpired             the retention time of the result has passed
│   ├── JobInterrupted         the server stopped several times while the job ran
│   ├── JobsOff                the server keeps no jobs
│   ├── DiskFull               the job does not fit on the disk, or exceeds the whole budget
│   ├── JobDamaged             the stored upload or result was changed or removed on the disk
│   └── JobsUnavailable        the jobs folder cannot be used, at start-up or until it is repaired
├── CodecLost                  the process that decoded or encoded the image was lost, twice
├── DeadlineExceeded           the deadline passed while the request was queued
└── BackendError               the backend failed a run
    ├── DeviceOutOfMemory      the run does not fit in the device's memory
    ├── UnsupportedSize        the backend does not accept images of this size
    ├── BackendLost            the worker thread or the device failed, or the run timed out
    ├── WrongOutput            the output has a wrong count, shape or type, or non-finite values
    └── BackendUnavailable     start-up only: missing library or provider, artifact mismatch

Each class has a `slug` (the problem type) and a `title`. One table in the API maps each class to its HTTP status.
"""

from server.errors.client import (
    AccessError,
    EmptyUpload,
    Forbidden,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    JobExpired,
    JobUnfinished,
    KeysUnavailable,
    NotAcceptable,
    NotOffered,
    Unauthorized,
    UndecodableImage,
    UnknownJob,
    UnknownModel,
    UnsupportedEncoding,
    UnsupportedImage,
    UploadStalled,
)
from server.errors.service import (
    BackendError,
    BackendLost,
    BackendUnavailable,
    CodecLost,
    DeadlineExceeded,
    DeadlineUnmet,
    DeviceOutOfMemory,
    DiskFull,
    Draining,
    JobDamaged,
    JobError,
    JobInterrupted,
    JobsFull,
    JobsOff,
    JobsUnavailable,
    MemoryShort,
    NotReady,
    PromptIRServeError,
    QueueFull,
    QuotaExceeded,
    Refused,
    UnsupportedSize,
    WrongOutput,
)

__all__ = [
    "AccessError",
    "BackendError",
    "BackendLost",
    "BackendUnavailable",
    "CodecLost",
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
    "NotOffered",
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
