"""Errors of runs and of what runs them."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from server.errors.root import PromptIRServeError


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
