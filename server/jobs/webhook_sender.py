"""Signs and sends one webhook, as the Standard Webhooks specification describes it."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import h11

from server.jobs.webhook_hosts import Destination, WebhookHosts, WebhookRefused

TIMEOUT_S = 10.0
"""For everything: name, connection, handshake, request and head of the answer."""
_MOST_HEAD_BYTES = 16 * 1024
_READ_BYTES = 4096
_PREFIX = "whsec_"
_LEAST_KEY_BYTES = 16
_AGENT = "promptir-serve"


def read_secrets(file: Path) -> list[bytes]:
    """Read the secrets of a file, one per line; raises ValueError if there is none or one is malformed, OSError."""
    lines = [line.strip() for line in file.read_text("ascii").splitlines()]
    keys = []
    for line in (line for line in lines if line and not line.startswith("#")):
        try:
            key = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not line.startswith(_PREFIX) or len(key) < _LEAST_KEY_BYTES:
            raise ValueError(f"a secret is {_PREFIX} and the base64 of at least {_LEAST_KEY_BYTES} bytes")
        keys.append(key)
    if not keys:
        raise ValueError("it holds no secret")
    return keys


def signatures(secrets: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one HMAC-SHA256 per secret, over id, timestamp and body."""
    signed = b"%b.%d.%b" % (id_.encode(), timestamp, body)
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class WebhookSender:
    """Sends messages to allowed hosts; follows no redirect and reads no body."""

    def __init__(self, hosts: WebhookHosts, secrets: Sequence[bytes]) -> None:
        self.hosts = hosts
        self._secrets = secrets
        self._tls = ssl.create_default_context()

    async def send(self, url: str, id_: str, timestamp: int, body: bytes) -> int:
        """Send one message and return the status of the answer.

        Raises WebhookRefused or InvalidRequest if the host is not allowed, OSError, TimeoutError and
        h11.RemoteProtocolError.
        """
        destination = self.hosts.check(url)
        async with asyncio.timeout(TIMEOUT_S):
            addresses = await self.hosts.resolve(destination)
            tls = self._tls if destination.scheme == "https" else None
            reader, writer = await asyncio.open_connection(
                addresses[0],
                destination.port,
                limit=_MOST_HEAD_BYTES,
                ssl=tls,
                server_hostname=None if tls is None else destination.host,
            )
            try:
                return await self._exchange(reader, writer, self._request(destination, id_, timestamp, body), body)
            finally:
                writer.transport.abort()  # a polite end could wait for the other side
                with suppress(OSError):
                    await writer.wait_closed()

    def _request(self, destination: Destination, id_: str, timestamp: int, body: bytes) -> h11.Request:
        headers = {
            "Host": destination.authority,
            "User-Agent": _AGENT,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "webhook-id": id_,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._secrets, id_, timestamp, body),
        }
        return h11.Request(method="POST", target=destination.target, headers=list(headers.items()))

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
    ) -> int:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
        for part in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(connection.send(part) or b"")
        await writer.drain()
        received = 0
        while received <= _MOST_HEAD_BYTES:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                connection.receive_data(data := await reader.read(_READ_BYTES))
                received += len(data)
            elif not isinstance(event, h11.InformationalResponse):
                raise WebhookRefused("the host closed the connection without an answer")
        raise WebhookRefused(f"the head of its answer has more than {_MOST_HEAD_BYTES} bytes")
