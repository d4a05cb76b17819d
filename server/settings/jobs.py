"""Settings of stored jobs."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from server.settings.group import PREFIX, Group


class JobSettings(Group):
    """Location, size and retention time of stored jobs."""

    jobs_folder: Path | None = Field(
        default=None,
        description="Folder for the uploads and results of /v1/jobs, one per server; unset, jobs are off.",
    )
    jobs_max_bytes: int = Field(
        default=4 * 2**30,
        gt=0,
        description="Most bytes of all jobs on the disk; beyond it new jobs get 429 until results expire or are "
        "deleted.",
    )
    jobs_keep_hours: float = Field(
        default=24.0, gt=0, description="Retention time of results, from the end of the job, also across restarts."
    )

    @model_validator(mode="after")
    def _what_is_given_is_used(self) -> Self:
        given = sorted(self.model_fields_set - {"jobs_folder"})
        if given and self.jobs_folder is None:
            raise ValueError(f"{PREFIX}{given[0].upper()}: has no effect without {PREFIX}JOBS_FOLDER")
        return self
