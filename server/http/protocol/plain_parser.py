"""Plain parser: httptools' request parser without upgrades."""

from collections.abc import Iterable
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

# HTTP2-Settings (RFC 7540, section 3.2.1) belongs to an upgrade to h2c and means nothing without it.
_OF_AN_UPGRADE = (b"upgrade", b"http2-settings")


class ParsedHead(Protocol):
    """What a parser needs of its protocol: the head of the request as collected so far."""

    parser: HttpRequestParser
    url: bytes
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""


class PlainParser(HttpRequestParser):
    """Reads a request for an upgrade as if it had no Upgrade header, which RFC 9110, section 7.8, allows.

    httptools ends such a request after its head, and would parse its body as the next request. So the head is parsed
    again without Upgrade. The callbacks must do nothing while `should_upgrade()` is true.
    """

    def __init__(self, protocol: ParsedHead) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        # As uvicorn does: a request with `Connection: close` is answered, whatever follows it.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override] # uvicorn gives it nothing else
        """Parse more bytes. Raises HttpParserError for invalid HTTP, and for CONNECT, after which no HTTP follows."""
        parser = self
        while True:
            try:
                HttpRequestParser.feed_data(parser, data)
                return
            except HttpParserUpgrade as upgrade:
                if parser.get_method() == b"CONNECT":
                    raise HttpParserError("this server is no proxy") from None
                (end,) = upgrade.args
                data = parser._head() + data[end:]
                # A parser cannot continue after a request that closes the connection.
                parser = self._protocol.parser = PlainParser(self._protocol)

    def _head(self) -> bytes:
        start = b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, self.get_http_version().encode())
        lines = [b"%b: %b" % header for header in _without_upgrade(self._protocol.headers)]
        return b"\r\n".join([start, *lines, b"", b""])


def _without_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in _OF_AN_UPGRADE)
        if name not in _OF_AN_UPGRADE:
            yield name, value
