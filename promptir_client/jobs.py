"""Job: long work as the server tells of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Job:
    """A job of `/v1/jobs` as it was when the server was asked; `document` has all that was said."""

    id: str
    state: str
    """`queued`, `running`, `done`, `failed`, `cancelled` or `expired`."""
    tiles_done: int
    tiles: int | None
    """In all; None until the image has been read."""
    time_left_s: float | None
    problem: Mapping[str, Any] | None
    document: Mapping[str, Any] = field(repr=False)

    @property
    def is_final(self) -> bool:
        """Whether nothing will be done for it any more."""
        return self.state not in UNFINISHED

    @classmethod
    def of(cls, content: bytes | str) -> "Job":
        """Read the job's JSON document."""
        document = json.loads(content)
        tiles = document["tiles"]
        return cls(
            document["id"],
            document["state"],
            tiles["done"],
            tiles["total"],
            document["time_left_s"],
            document["problem"],
            document,
        )


Progress = Callable[[Job], None]
"""Is told of each change of a job."""


def id_of(job: Job | str) -> str:
    """The id of a job, or the id itself."""
    return job.id if isinstance(job, Job) else job
