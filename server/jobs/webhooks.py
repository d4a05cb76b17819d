"""Delivers webhooks about jobs that have ended, until the host takes them or no attempt is left."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import h11

from server.errors import InvalidRequest, JobDamaged, JobError, JobExpired, UnknownJob
from server.jobs.batch_store import BatchStore
from server.jobs.run import BatchStatus, Status
from server.jobs.store_thread import StoreThread
from server.jobs.webhook_hosts import WebhookRefused
from server.jobs.webhook_sender import WebhookSender
from server.jobs.webhook_table import Webhook
from server.metrics import Metrics

log = logging.getLogger(__name__)

DELAYS_S = (1.0, 10.0, 60.0, 600.0, 3600.0, 4 * 3600.0, 8 * 3600.0)
"""Waits before the second attempt and each later one; after the last one the message is given up."""
JITTER = 0.1
CHECK_S = 1.0
AT_ONCE = 16
"""Messages that are on their way at the same time."""
GONE = 410

Look = Callable[[str], Awaitable[Status | BatchStatus]]
DocumentOf = Callable[[Status | BatchStatus], dict[str, object]]
"""Makes the JSON document of a job or batch."""


class Webhooks:
    """Sends each message at least once, across restarts: a message leaves the store after a host has taken it."""

    def __init__(
        self,
        store: BatchStore,
        thread: StoreThread,
        sender: WebhookSender,
        document_of: DocumentOf,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._thread = thread
        self._sender = sender
        self._document_of = document_of
        self._metrics = metrics
        self._clock = clock
        self._loop: asyncio.Task[None] | None = None

    def check(self, url: str) -> None:
        """Raise InvalidRequest for a URL that webhooks are not sent to."""
        self._sender.hosts.check(url)

    def start(self, look: Look) -> None:
        """Start to deliver; `look` returns the status of a job."""
        self._loop = asyncio.create_task(self._serve(look))

    async def stop(self) -> None:
        """Stop; messages on their way are sent again after the next start."""
        if self._loop is not None:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        self._sender.hosts.close()

    async def _serve(self, look: Look) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                try:
                    due = await self._thread.run(self._store.due_webhooks, self._clock(), 2 * AT_ONCE)
                except JobError:  # the disk fails, as the store has logged
                    due = []
                for webhook in due:
                    if len(running) < AT_ONCE and webhook.id not in running:
                        running[webhook.id] = task = asyncio.create_task(self._attempt(webhook, look))
                        task.add_done_callback(partial(_forget, running, webhook.id))
                if len(running) < AT_ONCE:
                    await asyncio.sleep(CHECK_S)
                else:
                    await asyncio.wait(running.values(), timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unfinished = list(running.values())
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _attempt(self, webhook: Webhook, look: Look) -> None:
        """Try a message once; whatever goes wrong concerns this one alone."""
        try:
            await self._deliver(webhook, look)
        except JobError:  # the disk fails, as the store has logged; the message stays due
            pass
        except Exception as error:
            log.exception("a webhook cannot be delivered", extra={"webhook": webhook.id})
            with suppress(JobError):
                await self._failed(webhook, f"{type(error).__name__}: {error}")

    async def _deliver(self, webhook: Webhook, look: Look) -> None:
        try:
            now = await look(webhook.subject)
        except (UnknownJob, JobExpired, JobDamaged) as error:
            await self._give_up(webhook, error.detail)
            return
        seconds = self._clock()
        moment = datetime.fromtimestamp(seconds, UTC).isoformat()
        message = {"type": f"job.{now.state.value}", "timestamp": moment, "data": self._document_of(now)}
        try:
            status = await self._sender.send(webhook.url, webhook.id, int(seconds), json.dumps(message).encode())
        except InvalidRequest as error:  # the list of hosts has changed
            await self._give_up(webhook, error.detail)
        except (WebhookRefused, OSError, TimeoutError, h11.RemoteProtocolError) as error:
            await self._failed(webhook, str(error) or type(error).__name__)
        else:
            if 200 <= status < 300:
                await self._thread.run(self._store.remove_webhook, webhook.id)
                self._metrics.count_webhook("delivered")
                log.info("webhook delivered", extra={"job": webhook.subject, "webhook": webhook.id})
            elif status == GONE:
                await self._give_up(webhook, "the host wants no more of them (410)")
            else:
                await self._failed(webhook, f"the host answered {status}")

    async def _failed(self, webhook: Webhook, reason: str) -> None:
        if webhook.attempts >= len(DELAYS_S):
            await self._give_up(webhook, reason)
            return
        delay_s = DELAYS_S[webhook.attempts] * (1 + JITTER * random.random())
        await self._thread.run(self._store.postpone_webhook, webhook.id, self._clock() + delay_s)
        self._metrics.count_webhook("retried")
        extra = {"job": webhook.subject, "webhook": webhook.id, "reason": reason, "retry_in_s": round(delay_s, 1)}
        log.warning("a webhook was not delivered", extra=extra)

    async def _give_up(self, webhook: Webhook, reason: str) -> None:
        await self._thread.run(self._store.remove_webhook, webhook.id)
        self._metrics.count_webhook("given-up")
        extra = {"job": webhook.subject, "webhook": webhook.id, "reason": reason}
        log.error("a webhook is given up", extra=extra)


def _forget(running: dict[str, asyncio.Task[None]], id_: str, _: asyncio.Task[None]) -> None:
    del running[id_]
