"""Connection: uvicorn's HTTP/1.1 protocol with bounds on requests, and answers in one write."""

import asyncio
import http
import json
import os
import random
import sys
from contextlib import suppress
from typing import Any, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserInvalidMethodError
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from server.errors.memory import NO_MEMORY, is_memory_short
from server.http.body.body import declared_bytes
from server.http.middleware.privacy import kept_private
from server.http.protocol.plain_parser import PlainParser
from server.http.scope import note_arrival

# More than proxies send. The parser itself would collect headers, trailers or a URL without limit.
MAX_HEAD_BYTES = 64 * 1024
# The most that httptools splits into path and query.
MAX_URL_BYTES = 65535
# Stop reading while this many requests of a connection wait for earlier answers: parsed, each takes about 2 KB, many
# times its size on the wire. Beyond that, parse in pieces of PIECE_BYTES, which hold at most 57 of the shortest.
MAX_PIPELINED, PIECE_BYTES = 16, 1024
_HEAD_END = b"\r\n\r\n"
# To search for the ends of heads takes 40 us for 64 KB, so in more than this the body is left out.
LONG_BYTES = 4 * 1024
# If a buffered answer does not shrink in this time, its client is not reading.
UNREAD_S = 60.0
# Answers from this size on are copied to the kernel without the interpreter lock, which a transport holds meanwhile.
LARGE_BYTES = 64 * 1024
_HEADERS = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in kept_private(()))


class BoundedProtocol(HttpToolsProtocol):
    """Adds bounds that uvicorn lacks: on heads, on requests that wait for their turn, and on answers that nobody reads.

    Requests for an upgrade to another protocol are answered in this one. uvicorn writes head and body of an answer
    separately: two system calls, and two wake-ups of the client. The transport here joins them.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _bare_bytes = 0
    _in_head = True
    _unparsed = b""
    _declared: int | None = None  # the length of the current body, None if its head does not say
    _coming = 0  # bytes of the current body that have not arrived, where its length was declared
    url = b""  # uvicorn sets it with the first request alone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wrap the transport in one that joins head and body."""
        super().connection_made(cast(asyncio.Transport, _Joining(cast(asyncio.Transport, transport), self.loop)))
        self.parser = PlainParser(self)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._unparsed = b""
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, as far as there is room for the requests in it."""
        if self._unparsed:
            data, self._unparsed = self._unparsed + data, b""
        if len(data) > LONG_BYTES and not self._coming and (end := data.find(_HEAD_END, 0, LONG_BYTES)) >= 0:
            end += len(_HEAD_END)
            self._parse(data[:end])  # tells how much of the rest is body
            data = data[end:]
            if self.transport.is_closing():
                return
        if len(self.pipeline) + data.count(_HEAD_END, self._coming) <= MAX_PIPELINED:
            self._parse(data)
            return
        for at in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                return
            if len(self.pipeline) >= MAX_PIPELINED:
                self._unparsed = data[at:]
                self.flow.pause_reading()
                return
            self._parse(data[at : at + PIECE_BYTES])

    def feed_body(self, data: memoryview) -> bool:
        """Parse what lies inside the current body; returns False, having done nothing, for anything else."""
        if self._unparsed or len(data) > self._coming:
            return False
        self._parse(data)
        return True

    def refuse_for_memory(self) -> None:
        """Answer 503 and close the connection: there was no memory for what has arrived."""
        if self.transport.is_closing():
            return
        if self._coming and self.cycle.response_complete:  # of a request that has its answer
            self.transport.close()
        else:
            self._refuse(503, NO_MEMORY)

    def on_response_complete(self) -> None:
        """Parse more of what has arrived, in the loop's next turn."""
        super().on_response_complete()
        if self._unparsed and not self.transport.is_closing():
            self.flow.pause_reading()
            if len(self.pipeline) < MAX_PIPELINED:
                self.loop.call_soon(self._parse_more)

    def _parse_more(self) -> None:
        if self._unparsed and not self.transport.is_closing():
            self.flow.resume_reading()
            try:
                self.data_received(b"")
            except MemoryError:
                self.refuse_for_memory()

    def _parse(self, data: bytes | memoryview) -> None:
        # Counts the bytes of a head, or of trailers, that has not ended.
        self._bare_bytes += len(data)
        super().data_received(cast(bytes, data))  # the parser takes either
        if self._bare_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The headers of a request may have {MAX_HEAD_BYTES} bytes.")
        elif self._in_head is not (self._head_timer is not None):
            self._watch_head()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Pass on the request, once its head is whole, unless a subclass refuses it."""
        if self.parser.should_upgrade():  # the head is parsed again without Upgrade
            return
        self._bare_bytes, self._declared = 0, declared_bytes(dict(self.headers))
        if self._is_refused():
            return
        self._in_head, self._coming = False, self._declared or 0
        super().on_headers_complete()
        note_arrival(cast(Scope, self.scope), self.cycle.message_event.is_set)

    def _is_refused(self) -> bool:
        # A subclass that answers the request here, at its head, returns True.
        return False

    def on_message_complete(self) -> None:
        """Pass on the end of the body."""
        self._coming = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body: as it is, where uvicorn would copy it twice."""
        self._bare_bytes = 0
        self._coming = max(0, self._coming - len(body))
        if not self.cycle.response_complete and not self.cycle.body:
            self.cycle.body, body = cast(bytearray, body), b""
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP in the form of all other errors; 503 if memory was short."""
        if is_memory_short(sys.exception()):
            self._refuse(503, NO_MEMORY)
        else:
            self._refuse(*_fault(self.url, sys.exception()))

    def pause_writing(self) -> None:
        """Watch the reader from now on: the buffers of the connection are full."""
        super().pause_writing()
        if self._unread_timer is None:
            self._watch_reader()

    def _watch_head(self) -> None:
        # A head may take as long as a connection may be idle.
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.timeout_keep_alive, self._head_is_late) if self._in_head else None

    def _head_is_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:  # a pipelined request waits for its turn
            self._watch_head()
        elif self.headers is not None:  # a request has begun
            self._refuse(408, f"The headers of a request must come within {self.timeout_keep_alive:g} seconds.")
        else:
            self.transport.close()

    def _watch_reader(self, before: int = 0) -> None:
        self._unread_timer = None
        waiting = self.transport.get_write_buffer_size()
        if waiting and waiting == before:
            self.transport.abort()
        elif waiting:
            self._unread_timer = self.loop.call_later(UNREAD_S, self._watch_reader, waiting)

    def _refuse(self, status: int, detail: str) -> None:
        # Without the request context: there is no request yet, or none that can be answered.
        if self.pipeline or (self.cycle is not None and self.cycle.response_started != self.cycle.response_complete):
            self.transport.abort()  # in the middle of another answer
            return
        title = http.HTTPStatus(status).phrase
        slug = title.lower().replace(" ", "-")
        problem = {"type": f"urn:promptir:problem:{slug}", "title": title, "status": status, "detail": detail}
        content = json.dumps(problem | {"instance": f"urn:promptir:request:{random.getrandbits(128):032x}"}).encode()
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n{_HEADERS}\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()


def _fault(url: bytes, error: BaseException | None) -> tuple[int, str]:
    """Return the status and the detail for a request that the parser refused."""
    if len(url) > MAX_URL_BYTES:
        return 414, f"The URL of a request may have {MAX_URL_BYTES} bytes."
    if isinstance(error, HttpParserInvalidMethodError):
        return 400, (
            "A request must begin with a method such as GET or POST. This one has an unknown method, is not plain "
            "HTTP, or follows a body that is longer than its Content-Length."
        )
    if isinstance(error, HttpParserCallbackError):
        return 400, "The URL of the request is not valid."  # splitting it is the only callback that may fail
    reason = f": {error}" if isinstance(error, HttpParserError) and error.args else ""
    return 400, f"The request is not valid HTTP/1.1{reason}."


class _Joining:
    """A transport that delays the head of an answer until its body is written, or to the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._socket = None if is_ssl(transport) else transport.get_extra_info("socket")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            if len(data) >= LARGE_BYTES:
                self._write_large(head, data)
            else:
                self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _write_large(self, head: bytes, data: bytes) -> None:
        sent = 0
        if self._socket is not None and not self.is_closing() and not self._transport.get_write_buffer_size():
            with suppress(OSError):  # the transport will meet it as well
                sent = os.writev(self._socket.fileno(), (head, data))
        if sent < len(head):
            self._transport.writelines((head[sent:], data))
        elif sent < len(head) + len(data):
            self._transport.write(memoryview(data)[sent - len(head) :])

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
