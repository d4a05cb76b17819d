"""The DeviceHost: lets other processes of this server use backends in this one."""

import logging
import math
import pickle
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path

import numpy as np

from server.backends.base import Backend, Pixels, Result
from server.backends.settings import RuntimeSettings
from server.backends.shared.instance import Request, SharedInstance
from server.backends.shared.messages import Address, Ran, Run, Start, Started
from server.backends.shared.turns import Turns
from server.errors import BackendLost
from server.shared_memory import Attachments

log = logging.getLogger(__name__)

NewBackend = Callable[[RuntimeSettings, int, str], Backend]
"""Makes a backend, not started, from its settings, its largest batch and the name of its device."""
_BACKLOG = 64
_PAUSE_S = 0.05


class DeviceHost:
    """Has one backend for each model and device, which runs the batches of all processes.

    A backend is started for the first process that asks for it and stopped after the last has left. One that is lost,
    or that a process has given up because a run took too long, is replaced by another for all.
    """

    def __init__(self, new_backend: NewBackend) -> None:
        self._new_backend = new_backend
        self._numbers = count()
        self._lock = threading.Lock()
        self._instances: dict[tuple[object, ...], SharedInstance] = {}
        self._turns: dict[str, Turns] = {}
        self._listener: Listener | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> Address:
        """Listen, and serve each connection in a thread; returns the address for `SharedBackend`."""
        key = secrets.token_bytes(32)
        # Not in the folder of `multiprocessing`, which stays behind when a process ends without its exit functions.
        self._folder = tempfile.TemporaryDirectory(prefix="promptir-")
        path = str(Path(self._folder.name) / "devices")
        self._listener = listener = Listener(path, "AF_UNIX", backlog=_BACKLOG)
        threading.Thread(target=self._accept, args=(listener, key), name="promptir-host", daemon=True).start()
        return Address(path, key)

    def close(self) -> None:
        """Take no more connections; those that exist go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(str(listener.address))  # or the thread would wait for another connection
            listener.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _accept(self, listener: Listener, key: bytes) -> None:
        while self._listener is listener:
            try:
                connection = listener.accept()
            except OSError:
                time.sleep(_PAUSE_S)  # no file descriptor is free
                continue
            threading.Thread(target=self._serve, args=(connection, key), name="promptir-host", daemon=True).start()

    def _serve(self, connection: Connection, key: bytes) -> None:
        # The process has ended, or has stopped its backend, or is not one of ours.
        with connection, suppress(EOFError, OSError, AuthenticationError):
            deliver_challenge(connection, key)  # here, since a process that hangs would keep all others waiting
            answer_challenge(connection, key)
            start: Start = connection.recv()
            instance, caller = self._acquire(start), _Caller(connection)
            try:
                caller.send(_started(instance))
                while True:
                    request = caller.receive()
                    if request is not None:
                        instance.submit(request)
            finally:
                self._release(start, instance)
                caller.close()

    def _acquire(self, start: Start) -> SharedInstance:
        with self._lock:
            instance = self._instances.get(start.identity)
            if instance is not None and instance.number == start.abandoned:
                log.critical("a run hangs; its thread is abandoned", extra={"device": start.device})
                instance.abandon(BackendLost("the run took too long"))
                self._turns.pop(start.device, None)  # the run may never end its turn
            if instance is None or not instance.is_usable:
                turns = self._turns.setdefault(start.device, Turns())
                backend = self._new_backend(start.settings, start.max_batch, start.device)
                instance = SharedInstance(next(self._numbers), backend, turns)
                self._instances[start.identity] = instance
                instance.start()
            instance.users += 1
            return instance

    def _release(self, start: Start, instance: SharedInstance) -> None:
        with self._lock:
            instance.users -= 1
            if instance.users == 0:
                instance.stop()
                if self._instances.get(start.identity) is instance:
                    del self._instances[start.identity]


class _Caller:
    """A process that sends batches; several threads may answer it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._segments = Attachments()

    def receive(self) -> Request | None:
        """Receive a batch; None if its segment does not exist, which is answered."""
        run: Run = self._connection.recv()
        if not isinstance(run.pixels, str):
            return Request(run.batch(run.pixels), partial(self._answer, None))
        try:
            segment = self._segments.view(run.pixels)
        except OSError as error:
            self.send(error)
            return None
        size = math.prod(run.shape) * np.dtype(np.float32).itemsize
        pixels = segment[:size].view(np.float32).reshape(run.shape)
        return Request(run.batch(pixels), partial(self._answer, pixels))

    def send(self, message: object) -> None:
        """Send a message, or the description of an error that cannot be pickled; in vain if the process has ended."""
        if isinstance(message, Exception):
            try:
                pickle.loads(pickle.dumps(message))  # noqa: S301 - our own; some errors can be pickled, not unpickled
            except Exception:
                message = RuntimeError(repr(message))
        with suppress(OSError), self._sending:
            self._connection.send(message)

    def close(self) -> None:
        """Unmap the segments of the process."""
        self._segments.close()

    def _answer(self, shared: Pixels | None, outcome: Result | Exception) -> None:
        if isinstance(outcome, Exception):
            self.send(outcome)
        elif shared is None or outcome.pixels.shape != shared.shape:
            self.send(Ran(outcome.pixels, outcome.aux))
        else:
            if outcome.pixels is not shared:
                np.copyto(shared, outcome.pixels)
            self.send(Ran(None, outcome.aux))


def _started(instance: SharedInstance) -> object:
    try:
        return Started(instance.number, instance.info())
    except Exception as error:
        return error
