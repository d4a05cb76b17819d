"""Errors of a request and of the image in it."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from server.errors.root import PromptIRServeError


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


class NotOffered(InvalidRequest):
    """The request asks for a part of a protocol that this server does not have."""

    slug = "not-offered"
    title = "Not offered"


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
