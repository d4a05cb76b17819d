"""The Budget: the bytes that all jobs may have, and what each client may have of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass


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

    def largest(self, owner: str | None) -> int:
        """The most that `owner` may have where nobody has anything."""
        return self.most(owner, {})

    def most(self, owner: str | None, used: Mapping[str | None, int]) -> int:
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
