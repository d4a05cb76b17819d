"""Byte budget of the stored jobs, and each client's share of it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from server.errors import DiskFull, JobsFull

Used = Mapping[str | None, int]
"""Bytes by owner."""
WaitS = Callable[[str | None], float]
"""Seconds until the next result expires: of one owner, or of all for None."""


def _no_clients() -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Budget:
    """Splits the bytes of stored jobs between clients so that none can lock out the others.

    Half is reserved in equal parts, one per client. The other half is common: a client may use at most half of what is
    free there, so the first takes up to half of it, the next half of the rest, and so on. Jobs without an owner, as all
    are without API keys, use the common half and are limited only by the whole budget.
    """

    max_bytes: int
    clients: Callable[[], Collection[str]] = _no_clients
    """Returns the names of the clients that share the budget."""

    def check(self, more_bytes: int, used_bytes: int, wait_s: WaitS) -> None:
        """Check that all jobs together have room for `more_bytes`.

        Raises JobsFull if there is no room now, DiskFull if the job exceeds the whole budget.
        """
        if more_bytes > self.max_bytes:
            raise DiskFull(
                f"The job needs {more_bytes} bytes for upload and result; the limit for all jobs is {self.max_bytes}.",
                jobs_max_bytes=self.max_bytes,
            )
        if used_bytes + more_bytes > self.max_bytes:
            raise self._full(f"Stored jobs use {used_bytes} of the {self.max_bytes} bytes allowed.", wait_s(None))

    def check_share(self, owner: str, more_bytes: int, used: Used, wait_s: WaitS) -> None:
        """Check that one owner has room for `more_bytes`; raises as `check`."""
        if more_bytes > (largest := self.largest(owner)):
            raise DiskFull(
                f"The job needs {more_bytes} bytes for upload and result; the limit for one key is {largest}.",
                jobs_max_bytes=largest,
            )
        if (mine := used.get(owner, 0)) + more_bytes > (most := self.most(owner, used)):
            raise self._full(
                f"The jobs of this key use {mine} bytes; the limit is {most} at the moment, so that others have room.",
                wait_s(owner),
            )

    def _full(self, detail: str, wait_s: float) -> JobsFull:
        detail += " Results are removed when they expire or are deleted."
        return JobsFull(detail, wait_s, jobs_max_bytes=self.max_bytes)

    def largest(self, owner: str | None) -> int:
        """Return the bytes that `owner` may use while no other client has jobs."""
        return self.most(owner, {})

    def most(self, owner: str | None, used: Used) -> int:
        """Return the bytes that all jobs of `owner` may use together, given what each owner has `used`."""
        others = {name: count for name, count in used.items() if name != owner}
        left = max(0, self.max_bytes - sum(others.values()))
        clients = self.clients()
        if owner is None or len(clients) < 2:
            return left
        own_part = self.max_bytes // (2 * len(clients))
        common = self.max_bytes - own_part * len(clients)
        taken = sum(max(0, count - own_part) if name in clients else count for name, count in others.items())
        return min(left, own_part + max(0, common - taken) // 2)
