"""Services: what the routes work with."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from server.access.access import Access
from server.errors import JobsUnavailable, PromptIRServeError
from server.jobs.long_work import LongWork
from server.metrics import Metrics
from server.restore.pipeline import Restorer, Status
from server.settings import LimitSettings, Settings


@dataclass(frozen=True)
class Services:
    """Made once by the composition root and found by every route as `app.state.services`."""

    restorer: Restorer
    metrics: Metrics
    settings: Settings
    version: str
    jobs: LongWork | None = None
    """None where no folder was given for them."""
    access: Access | None = None
    """None where nobody is asked for a key."""

    @property
    def refusal(self) -> PromptIRServeError | None:
        """Why the server is not ready; None where it is. A full disk is no reason: what is stored can be read."""
        if (status := self.restorer.status) is not Status.READY:
            return status.refusal
        trouble = None if self.jobs is None else self.jobs.trouble
        return trouble if isinstance(trouble, JobsUnavailable) else None

    @property
    def limits(self) -> LimitSettings:
        """What an upload may be."""
        return self.settings.limits

    @property
    def public_root(self) -> str:
        """What stands before every path as clients see it; nothing where no proxy puts it there."""
        return self.settings.http.root_path or ""


async def _services(request: Request) -> Services:
    # async, because FastAPI sends a plain function through its thread pool at each request.
    return cast(Services, request.app.state.services)


InjectedServices = Annotated[Services, Depends(_services)]
