"""Options of a restoration, as in `POST /restore`."""

import difflib
from collections.abc import Mapping
from typing import Literal, TypedDict

_IN_HEADERS = {"deadline_s", "priority"}
_MIXED = "multipart/mixed, image/*"


class RestoreOptions(TypedDict, total=False):
    """Options of a restoration, all optional; the server's OpenAPI document describes them."""

    format: str
    """`png`, `jpeg`, `webp`, `avif`, `tiff` or another of `output_formats` in `/v1/limits`; `same` as the upload."""
    quality: int
    effort: Literal["fast", "small"]
    metadata: Literal["keep", "strip"]
    color: Literal["keep", "srgb"]
    strength: float
    tile: int
    overlap: int
    report: bool
    model: str
    """Name of one of the server's models; by default the first."""
    deadline_s: float
    """Seconds within which the result is needed; the server refuses or drops requests that cannot meet it."""
    priority: Literal["interactive", "batch"]


class JobOptions(RestoreOptions, total=False):
    """Options of a job: those of a restoration, and a webhook."""

    webhook: str
    """URL to which the server sends the job's document when the job ends; the server must allow its host."""


def check_options(options: Mapping[str, object], kind: type[RestoreOptions] = RestoreOptions) -> None:
    """Raise TypeError for an unknown option, as Python does for unknown keyword arguments."""
    known = RestoreOptions.__annotations__ | kind.__annotations__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise TypeError(f"there is no option {name}: {hint}")


def parameters_of(options: RestoreOptions) -> dict[str, str]:
    """Return the query parameters of a request."""
    given = {name: value for name, value in options.items() if name not in _IN_HEADERS and value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def headers_of(options: RestoreOptions) -> dict[str, str]:
    """Return the headers of a request."""
    headers = {"Content-Type": "application/octet-stream"}
    if options.get("report"):
        headers["Accept"] = _MIXED
    if (deadline_s := options.get("deadline_s")) is not None:
        headers["X-Deadline-Ms"] = str(max(1, round(deadline_s * 1e3)))
    if (priority := options.get("priority")) is not None:
        headers["X-Priority"] = priority
    return headers
