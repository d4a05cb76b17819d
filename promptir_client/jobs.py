"""Job of `/v1/jobs`, as reported by the server."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Job:
    """State of a job at the time of the request; `document` is the server's whole JSON document."""

    id: str
    state: str
    """`queued`, `running`, `done`, `failed`, `cancelled` or `expired`."""
    tiles_done: int
    tiles: int | None
    """Total number of tiles; None until the image has been read."""
    time_left_s: float | None
    problem: Mapping[str, Any] | None
    document: Mapping[str, Any] = field(repr=False)

    @property
    def is_final(self) -> bool:
        """Whether the job has finished in any way."""
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
"""Called at each change of a job."""


def id_of(job: Job | str) -> str:
    """Return the id of a job or the given id."""
    return job.id if isinstance(job, Job) else job
