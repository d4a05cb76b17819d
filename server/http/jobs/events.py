"""Job events: the news of a job as server-sent events (WHATWG HTML, section 9.2)."""

from collections.abc import AsyncIterator

from server.http.jobs.schemas import Job
from server.jobs.record import State
from server.jobs.run import Status

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 2000
"""After which a client that was cut off comes back."""

_FIRST = f"retry: {RETRY_MS}\n\n".encode()
_HEARTBEAT = b": still here\n\n"
_UNFINISHED = (State.QUEUED, State.RUNNING)


async def job_events(news: AsyncIterator[Status | None], root: str) -> AsyncIterator[bytes]:
    """Write `progress` with each change of a job, then `done`, `failed` or `cancelled`; comments where it is silent.

    The data is the job's document. The id names the moment, so whoever comes back with it is told only what is new.
    """
    yield _FIRST
    async for now in news:
        yield _HEARTBEAT if now is None else _event(now, root)


def _event(now: Status, root: str) -> bytes:
    state = now.record.state
    name = "progress" if state in _UNFINISHED else state.value
    return f"id: {now.mark}\nevent: {name}\ndata: {Job.of(now, root).model_dump_json()}\n\n".encode()
