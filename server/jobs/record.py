"""Record of one stored job: state, order and result."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter

from server.formats.output import OutputFormat
from server.restore.options import Mode, RestoreOptions

_OPTIONS = TypeAdapter(RestoreOptions)


class State(StrEnum):
    """Lifecycle state of a job, as drawn in docs/jobs.md."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """The retention time has passed: the files are removed, and the record is kept a while to answer 410."""

    @property
    def is_final(self) -> bool:
        """Whether the job has finished in any way."""
        return self not in UNFINISHED


UNFINISHED = (State.QUEUED, State.RUNNING)
"""The states of a job that has not finished."""


Problem = dict[str, object]
"""The members of an RFC 9457 problem document."""


@dataclass(frozen=True, slots=True)
class Order:
    """Order of a client: `options` as JSON, `pixels` of its image, `deadline_at` in seconds of the wall clock."""

    options: str
    filename: str | None
    pixels: int
    result_bytes: int
    """Upper estimate of the result's size, reserved in the budget."""
    deadline_at: float | None = None
    owner: str | None = None
    """Name of the API key that owns the job; None: anyone with the id has access."""

    @property
    def restore_options(self) -> RestoreOptions:
        """The options, parsed."""
        return _OPTIONS.validate_json(self.options)


def options_json(options: RestoreOptions) -> str:
    """Serialise options for an order."""
    return _OPTIONS.dump_json(options).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a finished job, without its bytes."""

    output: OutputFormat
    width: int
    height: int
    mode: Mode
    tiles: int
    report: Problem | None = None
    dropped: tuple[str, ...] = ()
    """Parts of the upload that the result leaves out, such as `gain-map`."""
    model: str = ""
    """Name of the model that restored it; empty in records of an older version."""
    digest: str | None = field(default=None, compare=False)
    """SHA-256 of the result in hexadecimal, set when it is stored; None in records of an older version."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the store; times are seconds of the wall clock since 1970.

    `number` increases with each submitted job; `starts` counts how often this one was started. `used_bytes` is its part
    of the budget, from which the expected file size is computed to detect truncated files. `problem` says why the job
    failed, `answer` describes its result; `expires_at` is set with the final state, or with that of the last job of
    its `batch`.
    """

    id: str
    number: int
    state: State
    order: Order
    starts: int
    created_at: float
    used_bytes: int
    expires_at: float | None = None
    problem: Problem | None = None
    answer: Answer | None = None
    batch: str | None = None
    """Id of the batch that it belongs to."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos that were submitted together; each is a job."""

    id: str
    options: str
    filename: str | None
    """Name of the archive that held them."""
    owner: str | None
    created_at: float

    @property
    def restore_options(self) -> RestoreOptions:
        """The options of every photo, parsed."""
        return _OPTIONS.validate_json(self.options)


@dataclass(frozen=True, slots=True)
class Submission:
    """One photo of a new batch: its upload and order, or the problem for which it cannot be restored."""

    upload: bytes
    order: Order
    problem: Problem | None = None
