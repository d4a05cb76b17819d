"""The Budget: the bytes that all jobs may have, and what each client may have of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from server.errors import DiskFull, JobsFull

Used = Mapping[str | None, int]
"""Bytes by owner."""
WaitS = Callable[[str | None], float]
"""Seconds until a result makes room, of one owner or, for None, of all."""


def _nobody() -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Budget:
    """Half of it is set apart in equal parts, one for each client; of the other half one may have what it leaves free.

    So whoever comes first takes half of the common half at most, the next half of the rest, and nobody is shut out.
    Jobs of nobody in particular, as all are without keys, are of the common half and have no bound but the whole.
    """

    max_bytes: int
    clients: Callable[[], Collection[str]] = _nobody
    """Who shares it, by name."""

    def check(self, more_bytes: int, used_bytes: int, wait_s: WaitS) -> None:
        """Raise JobsFull where there is no room for so much now, DiskFull where there never is."""
        if more_bytes > self.max_bytes:
            raise DiskFull(
                f"The job needs {more_bytes} bytes, upload and result together; all jobs may have {self.max_bytes}.",
                jobs_max_bytes=self.max_bytes,
            )
        if used_bytes + more_bytes > self.max_bytes:
            raise self._full(f"Of the {self.max_bytes} bytes that jobs may have, {used_bytes} are taken.", wait_s(None))

    def check_share(self, owner: str, more_bytes: int, used: Used, wait_s: WaitS) -> None:
        """As `check`, of what one owner may have."""
        if more_bytes > (largest := self.largest(owner)):
            raise DiskFull(
                f"The job needs {more_bytes} bytes, upload and result together; those of one key may have {largest}.",
                jobs_max_bytes=largest,
            )
        if (mine := used.get(owner, 0)) + more_bytes > (most := self.most(owner, used)):
            raise self._full(
                f"The jobs of this key have {mine} bytes and may have {most} at the moment, so that others have room.",
                wait_s(owner),
            )

    def _full(self, detail: str, wait_s: float) -> JobsFull:
        detail += " Results go when they expire or are deleted."
        return JobsFull(detail, wait_s, jobs_max_bytes=self.max_bytes)

    def largest(self, owner: str | None) -> int:
        """The most that `owner` may have where nobody has anything."""
        return self.most(owner, {})

    def most(self, owner: str | None, used: Used) -> int:
        """The most that all jobs of `owner` together may have while the jobs of each have what is `used`."""
        others = {name: count for name, count in used.items() if name != owner}
        left = max(0, self.max_bytes - sum(others.values()))
        clients = self.clients()
        if owner is None or len(clients) < 2:
            return left
        own_part = self.max_bytes // (2 * len(clients))
        common = self.max_bytes - own_part * len(clients)
        taken = sum(max(0, count - own_part) if name in clients else count for name, count in others.items())
        return min(left, own_part + max(0, common - taken) // 2)
