"""Job settings: long work that outlives the process."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from server.settings.group import PREFIX, Group


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

    @model_validator(mode="after")
    def _what_is_given_is_used(self) -> Self:
        given = sorted(self.model_fields_set - {"jobs_folder"})
        if given and self.jobs_folder is None:
            raise ValueError(f"{PREFIX}{given[0].upper()}: there are no jobs without {PREFIX}JOBS_FOLDER")
        return self
