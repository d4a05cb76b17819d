"""Errors caused by the client: its request, image, API key or job id."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the names of families

from server.errors.service import JobError, PromptIRServeError


class InvalidRequest(PromptIRServeError):
    """The request is malformed; detected before its image is read."""

    slug = "invalid-request"
    title = "Invalid request"


class NotAcceptable(InvalidRequest):
    """The server writes none of the formats in the Accept header."""

    slug = "not-acceptable"
    title = "Not acceptable"


class UnknownModel(InvalidRequest):
    """No model has this name, or the model has no such version."""

    slug = "unknown-model"
    title = "Unknown model"


class UnsupportedEncoding(InvalidRequest):
    """The server does not read the Content-Encoding of the body."""

    slug = "unsupported-encoding"
    title = "Unsupported encoding"


class NotOffered(InvalidRequest):
    """The request uses a part of a protocol that this server does not implement."""

    slug = "not-offered"
    title = "Not offered"


class UploadStalled(PromptIRServeError):
    """The body arrived too slowly or stopped arriving."""

    slug = "upload-stalled"
    title = "Upload stalled"


class InvalidImage(PromptIRServeError):
    """The upload cannot be restored; a retry does not help."""

    slug = "invalid-image"
    title = "Invalid image"


class EmptyUpload(InvalidImage):
    """The upload is empty."""

    slug = "empty-upload"
    title = "Empty upload"


class UnsupportedImage(InvalidImage):
    """The upload is not an image in a supported format."""

    slug = "unsupported-image"
    title = "Unsupported image"


class UndecodableImage(InvalidImage):
    """The format is supported, but the data is truncated or corrupt."""

    slug = "undecodable-image"
    title = "Undecodable image"


class ImageTooLarge(InvalidImage):
    """The upload exceeds the limit on bytes, pixels or side length."""

    slug = "image-too-large"
    title = "Image too large"


class AccessError(PromptIRServeError):
    """Base class of errors about API keys."""

    slug = "access-error"
    title = "Access error"


class Unauthorized(AccessError):
    """The request has no API key, or an unknown one."""

    slug = "unauthorized"
    title = "Unauthorized"


class Forbidden(AccessError):
    """The API key is known but suspended."""

    slug = "forbidden"
    title = "Forbidden"


class KeysUnavailable(AccessError):
    """The keys file cannot be used; the detail gives the reason. Raised at start-up only."""

    slug = "keys-unavailable"
    title = "Keys unavailable"


class UnknownJob(JobError):
    """No job has this id."""

    slug = "unknown-job"
    title = "Unknown job"


class JobUnfinished(JobError):
    """The job has no result; `state` says whether it is queued, running, failed or cancelled."""

    slug = "job-unfinished"
    title = "No result"


class JobExpired(JobError):
    """The retention time of the job's result has passed."""

    slug = "job-expired"
    title = "Job expired"
