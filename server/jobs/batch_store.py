"""Store of batches, which are photos submitted together, and of webhooks."""

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from server.errors import JobDamaged, JobExpired, UnknownJob
from server.jobs.record import Batch, Record, State, Submission
from server.jobs.store import ID_BYTES, JOB_BYTES, Store
from server.jobs.webhook_table import Webhook


class BatchStore(Store):
    """A Store that also keeps batches and webhooks; the photos of a batch are jobs, and expire together."""

    def submit_batch(
        self, photos: Sequence[Submission], options: str, filename: str | None, webhook: str | None = None
    ) -> Batch:
        """Store the jobs of a batch durably, all or none; raises JobsFull or DiskFull."""
        owner = photos[0].order.owner
        jobs = {secrets.token_hex(ID_BYTES): photo for photo in photos}
        uploads = {id_: photo.upload for id_, photo in jobs.items() if photo.problem is None}
        batch = Batch(secrets.token_hex(ID_BYTES), options, filename, owner, self._clock())
        with self._disk.failing():
            self._make_room(sum(map(_bytes_of, photos)), owner)
            try:
                self._disk.uploads.write_all(uploads)
                with self._rows.transaction():
                    self._rows.batches.insert(batch)
                    for id_, photo in jobs.items():
                        used, problem = _bytes_of(photo), photo.problem
                        self._rows.insert(id_, photo.order, used, batch.created_at, batch=batch.id, problem=problem)
                    if webhook is not None:
                        self._rows.webhooks.insert(batch.id, webhook)
            except (OSError, sqlite3.Error):
                for id_ in uploads:
                    with suppress(OSError):
                        self._disk.uploads.remove(id_)
                raise
            self._count()
        return batch

    def find_batch(self, id_: str, owner: str | None = None) -> tuple[Batch, list[Record]] | None:
        """Return a batch and its jobs, None if no batch has this id; raises UnknownJob, JobExpired and JobDamaged.

        With an `owner`, batches of other owners are unknown.
        """
        self.expire()
        with self._disk.failing():
            batch = self._rows.batches.find(id_)
            records = [] if batch is None else self._rows.members(id_)
        if batch is None:
            return None
        if not records or (owner is not None and batch.owner not in (None, owner)):
            raise UnknownJob(f"There is no job {id_}: it never existed, was deleted, or expired long ago.")
        if all(record.state is State.EXPIRED for record in records):
            raise JobExpired(f"The job {id_} has expired: results are kept for {self.keep_s / 3600:g} hours.")
        return batch, records

    def check_owner(self, id_: str, owner: str) -> None:
        """Raise UnknownJob if a job or batch belongs to another owner; raises as `find`."""
        if self.find_batch(id_, owner) is None:
            self.find(id_, owner)

    def give_up_any(self, id_: str) -> list[str]:
        """Cancel an unfinished job or batch, or delete a finished one; returns the ids of its jobs. Raises as `find`.

        The finished photos of a batch that is cancelled keep their results.
        """
        try:
            found = self.find_batch(id_)
        except JobDamaged:  # a damaged batch can be deleted too
            found = None
        with self._disk.failing():
            jobs = self._rows.states_of(id_)
        if found is None and not jobs:
            self.give_up(id_)
            return [id_]
        unfinished = [job for job, state in jobs.items() if not state.is_final]
        for job in unfinished or jobs:
            with suppress(UnknownJob, JobExpired):
                self.give_up(job)
        return unfinished

    def due_webhooks(self, now: float, most: int) -> list[Webhook]:
        """Return the messages that are to be delivered now, the oldest first."""
        with self._disk.failing():
            return self._rows.webhooks.due(now, most)

    def postpone_webhook(self, id_: str, due_at: float) -> None:
        """Count a failed attempt and set the time of the next one."""
        with self._disk.failing(), self._rows.transaction():
            self._rows.webhooks.postpone(id_, due_at)

    def remove_webhook(self, id_: str) -> None:
        """Remove a message that was delivered or given up."""
        with self._disk.failing(), self._rows.transaction():
            self._rows.webhooks.delete(id_)


def _bytes_of(photo: Submission) -> int:
    if photo.problem is not None:
        return JOB_BYTES
    return len(photo.upload) + photo.order.result_bytes + JOB_BYTES
