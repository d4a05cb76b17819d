"""Python client of PromptIR Serve: `Client` and `AsyncClient`."""

from promptir_client.async_client import AsyncClient
from promptir_client.batches import RestoredBatch
from promptir_client.client import Client
from promptir_client.errors import (
    Forbidden,
    InvalidImage,
    InvalidRequest,
    JobFailed,
    NotFound,
    Problem,
    PromptIRError,
    ServerFailed,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from promptir_client.images import Image
from promptir_client.jobs import Job
from promptir_client.options import JobOptions, RestoreOptions
from promptir_client.restored import Change, Report, Restored, Timings
from promptir_client.retries import Retries

__all__ = [
    "AsyncClient",
    "Change",
    "Client",
    "Forbidden",
    "Image",
    "InvalidImage",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobOptions",
    "NotFound",
    "Problem",
    "PromptIRError",
    "Report",
    "RestoreOptions",
    "Restored",
    "RestoredBatch",
    "Retries",
    "ServerFailed",
    "TimedOut",
    "Timings",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
