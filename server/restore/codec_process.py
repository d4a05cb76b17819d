"""The CodecProcess: a process that does one piece of codec work at a time, and the thread's end of it."""

import atexit
import multiprocessing
import pickle
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

START_S = 60.0
"""The longest time in which a process starts: it imports the codecs, on a busy machine."""
_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
_PIECE_BYTES = 4096  # more than most messages have; a larger buffer costs more than a second piece
_LENGTH = struct.Struct("<Q")
_TIMEVAL = struct.Struct("@ll")  # of C: seconds and microseconds

Work = Callable[..., Any]
"""A function of a module, called in the process with pickled arguments; pixels go through shared memory."""


class ProcessLost(Exception):  # noqa: N818 - no error of the work
    """The process ended, or did not answer in time; `hung` tells which."""

    def __init__(self, *, hung: bool) -> None:
        super().__init__("the process hung" if hung else "the process ended")
        self.hung = hung


class ProcessAbsent(Exception):  # noqa: N818 - no error of the work
    """The process does not start."""


class CodecProcess:
    """One process, started again after it was lost. One thread at a time may use it."""

    def __init__(self, prepare: Work, limit_s: float) -> None:
        self._prepare = prepare
        self._limit_s = limit_s
        self._lock = threading.Lock()  # between a stop and a start
        self._use = threading.RLock()  # between a stop and a call
        self._stopped = False
        self._process: Any = None
        self._socket: socket.socket
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the process if there is none; returns before it is ready. Raises ProcessAbsent."""
        with self._lock:
            if self._process is not None:
                return
            if self._stopped:
                raise ProcessAbsent("the server stops")
            own, other = socket.socketpair()
            try:
                with other:
                    process = _SPAWN.Process(
                        target=serve, args=(other, self._prepare), name="promptir-codec", daemon=True
                    )
                    process.start()
            except OSError as error:
                own.close()
                raise ProcessAbsent(f"no process can be started: {error}") from error
            self._process, self._socket, self._is_ready = process, own, False
            atexit.register(self.stop)  # before multiprocessing's own hook, which waits for its children

    def call(self, work: Work, *arguments: Any) -> Any:
        """Do some work in the process and return its result, or raise its error.

        Raises ProcessLost if the process ends meanwhile, or takes longer than the limit: it is dead by then, and writes
        to no shared memory any more. Raises ProcessAbsent if it does not start.
        """
        with self._use:
            self.start()
            if not self._is_ready:
                self._await_start()
            succeeded, result = self._answer(work, arguments)
        if not succeeded:
            raise result
        return result

    def stop(self) -> None:
        """Kill the process for good, whatever it does."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
        with self._use:  # a call ends with its process
            if self._process is not None:
                self._end()
        atexit.unregister(self.stop)

    def _answer(self, work: Work, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        try:
            _send(self._socket, pickle.dumps((work, arguments), pickle.HIGHEST_PROTOCOL))
            answer: tuple[bool, Any] = pickle.loads(_receive(self._socket))  # noqa: S301 - from a process of our own
        except (TimeoutError, BlockingIOError):
            self._end()
            raise ProcessLost(hung=True) from None
        except (OSError, EOFError, pickle.UnpicklingError):
            self._end()
            raise ProcessLost(hung=False) from None
        return answer

    def _await_start(self) -> None:
        self._socket.settimeout(START_S)
        try:
            _receive(self._socket)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._end()
            raise ProcessAbsent("a codec process does not start") from None
        _limit(self._socket, self._limit_s)
        self._is_ready = True

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            process.kill()
            process.join()
            process.close()
            self._socket.close()


def serve(connection: socket.socket, prepare: Work) -> None:
    """Work until the other end is closed; the main function of the process. `prepare` is called first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the server, which finishes what it accepted
    prepare()
    with connection, suppress(EOFError, OSError):  # the server has ended
        answer: tuple[bool, Any] = (True, None)
        while True:
            _send(connection, _pickled(answer))
            work, arguments = pickle.loads(_receive(connection))  # noqa: S301 - from the server
            try:
                answer = True, work(*arguments)
            except Exception as error:
                answer = False, error
            del arguments


def _limit(connection: socket.socket, seconds: float) -> None:
    """Let no later send or receive take longer; they raise TimeoutError or BlockingIOError.

    Each operation of a socket with a timeout of Python's own polls first, and takes the interpreter lock once more.
    """
    if sys.platform == "win32":
        connection.settimeout(seconds)
        return
    connection.settimeout(None)
    time_limit = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, time_limit)


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(message)) + message)


def _receive(connection: socket.socket) -> bytes:
    """Receive a message, nearly always in one piece; raises EOFError if the other end is closed."""
    whole = bytearray()
    while len(whole) < _LENGTH.size or len(whole) < _LENGTH.size + _LENGTH.unpack_from(whole)[0]:
        piece = connection.recv(_PIECE_BYTES)
        if not piece:
            raise EOFError
        whole += piece
    return bytes(whole[_LENGTH.size :])


def _pickled(answer: tuple[bool, Any]) -> bytes:
    try:
        data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        if not answer[0]:
            pickle.loads(data)  # noqa: S301 - our own; some errors can be pickled and not unpickled
    except Exception:
        return pickle.dumps((False, RuntimeError(repr(answer[1]))))
    return data
