"""Services: the parts of the server that routes use."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from server.access.access import Access
from server.errors import JobsUnavailable, PromptIRServeError
from server.jobs.long_work import LongWork
from server.metrics import Metrics
from server.metrics.exposition import MetricsPage
from server.restore.pipeline import Restorer, Status
from server.settings import LimitSettings, Settings


@dataclass(frozen=True)
class Services:
    """Made once by the composition root; routes find it as `app.state.services`."""

    restorer: Restorer
    metrics: Metrics
    metrics_page: MetricsPage
    """Makes the page of all metrics of the server, which may have several processes."""
    settings: Settings
    version: str
    jobs: LongWork | None = None
    """None if the settings give them no folder."""
    access: Access | None = None
    """None if no key is asked for."""

    @property
    def refusal(self) -> PromptIRServeError | None:
        """Why the server is not ready; None if it is. A full disk does not count: stored jobs can still be read."""
        if (status := self.restorer.status) is not Status.READY:
            return status.refusal
        trouble = None if self.jobs is None else self.jobs.trouble
        return trouble if isinstance(trouble, JobsUnavailable) else None

    @property
    def limits(self) -> LimitSettings:
        """The limits on uploads."""
        return self.settings.limits

    @property
    def public_root(self) -> str:
        """The prefix of every path as clients see it; empty unless a proxy adds one."""
        return self.settings.http.root_path or ""


async def _services(request: Request) -> Services:
    # async, because FastAPI sends a plain function through its thread pool at each request.
    return cast(Services, request.app.state.services)


InjectedServices = Annotated[Services, Depends(_services)]
