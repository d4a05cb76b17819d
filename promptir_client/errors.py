"""The error tree of the client.

PromptIRError
├── Unreachable            no answer came: nobody listens, or the connection broke
├── TimedOut               the time of the whole call is over, retries included
├── JobFailed              a job ended without a result; `job` has its problem
└── Problem                the server answered with a problem document (RFC 9457)
    ├── InvalidRequest     400, 406: an option that is none, a form that is broken
    ├── Unauthorized       401: no API key, or one that the server does not know
    ├── Forbidden          403: the key is suspended
    ├── NotFound           404, 409, 410: no such job, no result yet, or no longer
    ├── InvalidImage       408, 413, 415, 422: not an image, a broken one, one that is too large
    ├── TooManyRequests    429: a full queue or a quota; `retry_after_s` says when to come back
    ├── Unavailable        502, 503: starting, draining, or no device works
    └── ServerFailed       500, 501, 504, 507 and all else
"""
# ruff: noqa: N818 - the names say what happened, as those of the server's own tree do

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from promptir_client.jobs import Job

_SLUG = "urn:promptir:problem:"


class PromptIRError(Exception):
    """Root of the tree. Errors can be pickled and copied, so that worker processes can raise them."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is made again from its message alone otherwise, which is not what its class is made of.
        return _again, (type(self), self.args, self.__dict__)


class Unreachable(PromptIRError):
    """No answer came. `sent` says whether the server may have seen the request."""

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
    """What the server said about a request that it did not answer as asked.

    `slug` is the end of the problem's type (`queue-full`); `members` has the whole document.
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
    """The server asks for an API key that it knows."""

    statuses = (401,)


class Forbidden(Problem):
    """The API key is known and not let in."""

    statuses = (403,)


class NotFound(Problem):
    """There is no such job for this key, or no result of it."""

    statuses = (404, 409, 410)


class InvalidImage(Problem):
    """The upload cannot be restored, whatever the load."""

    statuses = (408, 413, 415, 422)


class TooManyRequests(Problem):
    """The queue is full, or the key's quota is used up."""

    statuses = (429,)


class Unavailable(Problem):
    """The server takes nothing at the moment."""

    statuses = (502, 503)


class ServerFailed(Problem):
    """The server could not do it; the image is not to blame as far as it knows."""


def _again(kind: type[PromptIRError], arguments: tuple[Any, ...], members: dict[str, Any]) -> PromptIRError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(members)
    return error


def problem_of(status: int, content: bytes, retry_after: str | None) -> Problem:
    """The error of an answer that is none of success; what is no problem document (a proxy's page) keeps its text."""
    try:
        members = json.loads(content)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {"title": "No problem document", "detail": content[:200].decode("utf-8", "replace")}
    kind = next((kind for kind in Problem.__subclasses__() if status in kind.statuses), ServerFailed)
    # The other form of Retry-After is a date, which this server never sends.
    seconds = float(retry_after) if retry_after is not None and retry_after.strip().isdigit() else None
    return kind(status, members, seconds)
