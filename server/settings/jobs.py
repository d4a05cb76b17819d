"""Job settings: long work that outlives the process."""

from pathlib import Path

from pydantic import Field

from server.settings.group import Group


class JobSettings(Group):
    """Where long work is kept, how much of it and for how long."""

    jobs_folder: Path | None = Field(
        default=None,
        description="Takes uploads and results of /v1/jobs, and belongs to one server; unset, there are no jobs.",
    )
    jobs_max_bytes: int = Field(
        default=4 * 2**30,
        gt=0,
        description="Of all jobs on the disk; beyond it 429, for results go only in their time.",
    )
    jobs_keep_hours: float = Field(
        default=24.0, gt=0, description="A result is kept so long after its end, fetched or not, across restarts."
    )
