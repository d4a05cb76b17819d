"""Raw HTTP: requests byte by byte on a socket, for what no client library would send or leave half done."""

import json
import socket
from typing import Any

WAIT_S = 30.0
RECEIVE_BYTES = 65536


def connect(url: str) -> socket.socket:
    """An open connection to the server at `url`; the caller closes it."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def upload_head(length: int, *lines: str) -> bytes:
    """The head of an upload of `length` bytes to `/restore`, with further header lines."""
    return "\r\n".join(["POST /restore HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers (lower case) and JSON document of the next answer."""
    start, body = b"", b""
    while not start.endswith(b"\r\n\r\n"):  # byte by byte: the next answer may have come with this one
        start += received(connection, 1)
    start = start.removesuffix(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while missing := int(headers["content-length"]) - len(body):
        body += received(connection, missing)
    return int(status.split()[1]), headers, json.loads(body)


def received(connection: socket.socket, most: int = RECEIVE_BYTES) -> bytes:
    """What has come, at most so many bytes; never nothing."""
    data = connection.recv(most)
    assert data, "closed before the answer was whole"
    return data
