"""The root of the error tree."""

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
