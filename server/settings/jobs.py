"""Settings of stored jobs."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from server.settings.group import PREFIX, Group, split

# A name, perhaps with a wildcard before it, an IPv4 address or an IPv6 address in brackets, with a port; or a network.
_HOST = re.compile(
    r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?|[0-9A-Fa-f:.]+/\d{1,3}"
)


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

    webhook_hosts: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(),
        description="Hosts that webhooks of jobs may be sent to, as hooks.example, hooks.example:8443 or *.example; "
        "unset, none. A host with an internal address needs that address here too, as 10.1.2.3 or 10.0.0.0/8.",
    )
    webhook_secret_file: Path | None = Field(
        default=None,
        description="File of the secrets that sign webhooks, one per line as whsec_ and base64 (Standard Webhooks); "
        "each signs, so that secrets can be rotated.",
    )

    @model_validator(mode="after")
    def _what_is_given_is_used(self) -> Self:
        given = sorted(self.model_fields_set - {"jobs_folder"})
        if given and self.jobs_folder is None:
            raise ValueError(f"{PREFIX}{given[0].upper()}: has no effect without {PREFIX}JOBS_FOLDER")
        for host in self.webhook_hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{PREFIX}WEBHOOK_HOSTS={host}: a host is a name or an address, without https://")
        if bool(self.webhook_hosts) != (self.webhook_secret_file is not None):
            raise ValueError(f"{PREFIX}WEBHOOK_HOSTS and {PREFIX}WEBHOOK_SECRET_FILE: need each other")
        return self
