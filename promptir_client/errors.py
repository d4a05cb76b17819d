"""The error tree of the client.

PromptIRError
├── Unreachable            no response: nothing listens at the URL, or the connection broke
├── TimedOut               the call took longer than its timeout, retries included
├── JobFailed              a job ended without a result; `job` carries its problem
└── Problem                the server answered with a problem document (RFC 9457)
    ├── InvalidRequest     400, 406: an invalid option or a malformed request
    ├── Unauthorized       401: no API key, or an unknown one
    ├── Forbidden          403: the key is suspended
    ├── NotFound           404, 409, 410: no such model or job, or its result is not yet or no longer available
    ├── InvalidImage       408, 413, 415, 422: not an image, corrupt, or too large
    ├── TooManyRequests    429: the queue is full or a quota is used up; `retry_after_s` says when to retry
    ├── Unavailable        502, 503: the server is starting, draining or has no working device
    └── ServerFailed       500, 501, 504, 507 and all others
"""
# ruff: noqa: N818 - the names say what happened, as in the server's error tree

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from promptir_client.jobs import Job

_SLUG = "urn:promptir:problem:"


class PromptIRError(Exception):
    """Root of the tree; errors can be pickled, so that worker processes can raise them."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default unpickling calls the class with the message, which does not fit these constructors.
        return _again, (type(self), self.args, self.__dict__)


class Unreachable(PromptIRError):
    """No response was received; `sent` says whether the server may have received the request."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class TimedOut(PromptIRError):
    """The call took longer than its `timeout`."""


class JobFailed(PromptIRError):
    """The job failed, was cancelled or has expired."""

    def __init__(self, job: "Job") -> None:
        reason = "" if job.problem is None else f": {job.problem.get('detail')}"
        super().__init__(f"the job {job.id} is {job.state}{reason}")
        self.job = job


class Problem(PromptIRError):
    """Error response of the server.

    `slug` is the last part of the problem's type (`queue-full`); `members` has the whole document.
    """

    statuses: ClassVar[tuple[int, ...]] = ()

    def __init__(self, status: int, members: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        self.members = dict(members)
        self.slug = str(members.get("type", "")).removeprefix(_SLUG)
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail", ""))
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {self.slug}: {self.detail}")


class InvalidRequest(Problem):
    """The request is malformed; `members["errors"]` names each bad parameter."""

    statuses = (400, 406)


class Unauthorized(Problem):
    """The server requires a valid API key."""

    statuses = (401,)


class Forbidden(Problem):
    """The API key is known but suspended."""

    statuses = (403,)


class NotFound(Problem):
    """The model or job does not exist for this key, or the job has no result."""

    statuses = (404, 409, 410)


class InvalidImage(Problem):
    """The upload cannot be restored; a retry does not help."""

    statuses = (408, 413, 415, 422)


class TooManyRequests(Problem):
    """The queue is full, or the key's quota is used up."""

    statuses = (429,)


class Unavailable(Problem):
    """The server currently accepts no requests."""

    statuses = (502, 503)


class ServerFailed(Problem):
    """The server failed; as far as it knows, not because of the image."""


def _again(kind: type[PromptIRError], arguments: tuple[Any, ...], members: dict[str, Any]) -> PromptIRError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(members)
    return error


def problem_of(status: int, content: bytes, retry_after: str | None) -> Problem:
    """Create the error of an unsuccessful response; a body other than a problem document becomes its detail."""
    try:
        members = json.loads(content)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {"title": "No problem document", "detail": content[:200].decode("utf-8", "replace")}
    kind = next((kind for kind in Problem.__subclasses__() if status in kind.statuses), ServerFailed)
    # Retry-After may also be a date, which this server never sends.
    seconds = float(retry_after) if retry_after is not None and retry_after.strip().isdigit() else None
    return kind(status, members, seconds)
