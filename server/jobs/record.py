"""The Record: what the store knows about one job."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter

from server.formats.output import OutputFormat
from server.restore.options import Mode, RestoreOptions

_OPTIONS = TypeAdapter(RestoreOptions)


class State(StrEnum):
    """Where a job is in its life; docs/jobs.md draws it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its kept time is over: the files are gone, and the record stays a while to say so."""

    @property
    def is_final(self) -> bool:
        """Whether nothing will be done for it any more."""
        return self not in (State.QUEUED, State.RUNNING)


Problem = dict[str, object]
"""The members of an RFC 9457 problem document."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked for; `options` as JSON, `pixels` of its image, `deadline_at` in seconds of the wall clock."""

    options: str
    filename: str | None
    pixels: int
    result_bytes: int
    """The most that its result is thought to take: that much of the budget is set aside for it."""
    deadline_at: float | None = None
    owner: str | None = None
    """The API key that it belongs to; None: to whoever has its id."""

    @property
    def restore_options(self) -> RestoreOptions:
        """The options, read back."""
        return _OPTIONS.validate_json(self.options)


def options_json(options: RestoreOptions) -> str:
    """The options as an order keeps them."""
    return _OPTIONS.dump_json(options).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a done job came to, besides the bytes."""

    output: OutputFormat
    width: int
    height: int
    mode: Mode
    tiles: int
    report: Problem | None = None
    dropped: tuple[str, ...] = ()
    """What the upload held beside the picture and the result does not."""
    digest: str | None = field(default=None, compare=False)
    """SHA-256 of the bytes in hexadecimal, added as they are stored; None for those of an older version."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the store; moments are seconds of the wall clock since 1970.

    `number` counts the jobs in the order they came, `starts` how often this one was begun. `used_bytes` of the budget
    are its own: by them a file that is no longer whole is known. `problem` says why it failed, `answer` what came out;
    `expires_at` is set with the final state.
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
