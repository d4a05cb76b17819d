"""The main function of an HTTP process."""

import os
import signal
import threading
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

from prometheus_client import CollectorRegistry

from server.app import create_app
from server.backends.shared.backend import SharedBackends
from server.backends.shared.messages import Address
from server.cli.http_processes.channel import Asker, Failed, PageWanted, Unanswered
from server.cli.http_server import HttpServer, exit_at_once, open_files, share
from server.cli.user_errors import USER_ERRORS
from server.errors import NotReady
from server.metrics.exposition import page_of
from server.restore.allocator import limit_retained_memory
from server.settings import Settings
from server.shared_memory import SegmentPool

OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""The signals of Ctrl-C and of a closed terminal; they are blocked when the process starts."""


def serve(
    settings: Settings, address: Address, questions: Connection, asking: Connection, opens_when_ready: bool
) -> None:
    """Serve HTTP with the backends of the process at `address`, until a signal or the end of that process.

    `questions` brings the parent's questions, and `asking` takes those of this process. With `opens_when_ready` the
    process listens when its backends are ready.
    """
    _leave_terminal()
    parent = Asker(asking)
    try:
        _serve(settings, address, questions, parent, opens_when_ready)
    except USER_ERRORS as error:
        parent.tell(Failed(str(error)))
        exit_at_once(1)
    exit_at_once(0)


def _leave_terminal() -> None:
    """Leave Ctrl-C to the parent, which then asks this process to drain."""
    os.setpgid(0, 0)
    for number in OF_THE_TERMINAL:
        before = signal.signal(number, signal.SIG_IGN)  # drops one that came earlier, while it was blocked
        signal.signal(number, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_TERMINAL)


def _serve(settings: Settings, address: Address, questions: Connection, parent: Asker, opens_when_ready: bool) -> None:
    limit_retained_memory()
    segments = SegmentPool()
    backends = SharedBackends(address, segments)
    listener = share(settings.http)
    app = create_app(settings, backends.of, partial(_page_of_all, parent), opens_when_ready=opens_when_ready)
    services = app.state.services
    open_files(app)
    server = HttpServer(app, settings, partial(parent.tell, "ready"), partial(parent.tell, "alive"))
    threading.Thread(target=_answer, args=(questions, services.metrics.registry), daemon=True).start()
    parent.tell("listening")
    server.run(listener)
    segments.close()
    if (failure := services.restorer.failure) is not None:
        raise failure


def _page_of_all(parent: Asker, is_openmetrics: bool) -> bytes:
    try:
        page: bytes = parent.ask(PageWanted(is_openmetrics))
    except Unanswered as error:
        raise NotReady("the process that collects the metrics does not answer") from error
    return page


def _answer(questions: Connection, registry: CollectorRegistry) -> None:
    """Answer the parent with pages of metrics; drain when the parent has ended, since the devices ended with it."""
    with suppress(EOFError, OSError):
        while True:
            questions.send(page_of(registry, questions.recv().is_openmetrics))
    os.kill(os.getpid(), signal.SIGTERM)
