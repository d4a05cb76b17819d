"""Raw HTTP requests on a socket, for malformed and incomplete ones."""

import json
import socket
from typing import Any

WAIT_S = 30.0
RECEIVE_BYTES = 65536


def connect(url: str) -> socket.socket:
    """Open a connection to the server at `url`; the caller closes it."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def upload_head(length: int, *lines: str) -> bytes:
    """Build the head of an upload of `length` bytes to `/restore`, with additional header lines."""
    return "\r\n".join(["POST /restore HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]).encode()


def begin_upload(connection: socket.socket, head: bytes) -> None:
    """Send the head of an upload, and return once the server reads its body."""
    connection.sendall(head.removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n")
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        interim += received(connection, 1)
    assert interim.startswith(b"HTTP/1.1 100 "), interim


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Read status, headers (lower case) and JSON document of the next response."""
    start, body = b"", b""
    while not start.endswith(b"\r\n\r\n"):  # byte by byte, because the next response may follow immediately
        start += received(connection, 1)
    start = start.removesuffix(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while missing := int(headers["content-length"]) - len(body):
        body += received(connection, missing)
    return int(status.split()[1]), headers, json.loads(body)


def received(connection: socket.socket, most: int = RECEIVE_BYTES) -> bytes:
    """Read at least one and at most `most` bytes."""
    data = connection.recv(most)
    assert data, "closed before the answer was whole"
    return data
