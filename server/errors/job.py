"""Errors of stored jobs."""
# ruff: noqa: N818 - the names say what happened; "Error" ends only the two that are families of faults

from server.errors.root import PromptIRServeError


class JobError(PromptIRServeError):
    """A stored job cannot be given, kept or brought to its end."""

    slug = "job-error"
    title = "Job error"


class UnknownJob(JobError):
    """No job has this id."""

    slug = "unknown-job"
    title = "Unknown job"


class JobUnfinished(JobError):
    """The job has no result: it waits, runs, failed or was cancelled, as `state` says."""

    slug = "job-unfinished"
    title = "No result"


class JobExpired(JobError):
    """The job has ended and its result was kept for the stated time."""

    slug = "job-expired"
    title = "Job expired"


class JobInterrupted(JobError):
    """The server ended several times while the job ran, so it is not begun again."""

    slug = "job-interrupted"
    title = "Job interrupted"


class JobsOff(JobError):
    """The server was started without a folder to keep jobs in."""

    slug = "jobs-off"
    title = "No jobs here"


class DiskFull(JobError):
    """The disk, or all that jobs may take up of it, does not hold the job."""

    slug = "disk-full"
    title = "Disk full"

    @property
    def is_of_budget(self) -> bool:
        """Whether the job outgrows the budget, which clearing the disk does not help."""
        return "jobs_max_bytes" in self.extensions


class JobDamaged(JobError):
    """The stored upload or result of the job was changed or removed on the disk."""

    slug = "job-damaged"
    title = "Job damaged"


class JobsUnavailable(JobError):
    """The jobs folder cannot be used, as long as that lasts; the detail says why."""

    slug = "jobs-unavailable"
    title = "Jobs unavailable"
