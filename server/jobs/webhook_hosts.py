"""Allow-list of the hosts that webhooks may be sent to, and their addresses."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self
from urllib.parse import urlsplit

from server.errors import InvalidRequest

MOST_URL_CHARACTERS = 2048
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
# Prefixes whose addresses hold an IPv4 address: NAT64 (RFC 6052), 6to4 (RFC 3056) and Teredo (RFC 4380).
_TRANSLATED = [ipaddress.IPv6Network(prefix) for prefix in ("64:ff9b::/96", "2002::/16", "2001::/32")]
_RESOLVING = 2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class WebhookRefused(Exception):  # noqa: N818 - it says what happened
    """Says why a webhook is not sent."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a webhook goes, as its URL says; `target` is the path with the query."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Parse a URL; raises InvalidRequest for one that is not plain http or https."""
        if not url:
            raise _invalid("its URL is empty; give one that begins with https:// or http://, or leave it out")
        if len(url) > MOST_URL_CHARACTERS or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
            raise _invalid(f"a URL has at most {MOST_URL_CHARACTERS} visible ASCII characters and no backslash")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise _invalid(str(error)) from None
        labels = host.rstrip(".").split(".")
        if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or not all(0 < len(one) <= 63 for one in labels):
            raise _invalid("a URL begins with https:// or http:// and the name of a host")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise _invalid("the URL has a user, a password or a fragment, which are not accepted")
        target = parts.path or "/"
        if parts.query:
            target = f"{target}?{parts.query}"
        return cls(parts.scheme, host.rstrip("."), _PORTS[parts.scheme] if port is None else port, target)

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the list: a name or a network; without a port it allows 80 and 443."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def of(cls, text: str) -> Self:
        if "/" in text:
            return cls(None, ipaddress.ip_network(text, strict=False), None)
        host, _, port = text.rpartition(":") if re.fullmatch(r"\[.*\]:\d+|[^:]*:\d+", text) else (text, "", "")
        host = host.strip("[]").lower().rstrip(".")
        try:
            return cls(None, ipaddress.ip_network(host), int(port) if port else None)
        except ValueError:
            return cls(host, None, int(port) if port else None)

    def takes_port(self, port: int) -> bool:
        return port in _PORTS.values() if self.port is None else port == self.port

    def is_named(self, host: str) -> bool:
        if self.name is None:
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def holds(self, address: Address) -> bool:
        return self.network is not None and address in self.network


class WebhookHosts:
    """Decides which URLs are allowed, and resolves them to addresses that are allowed too.

    An internal address (private, loopback, link-local, shared, multicast or translated) is allowed only if an entry of
    the list is that address or a network with it. Without entries nothing is allowed.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = [_Entry.of(entry) for entry in entries]
        self._threads = ThreadPoolExecutor(_RESOLVING, thread_name_prefix="promptir-webhook-names")

    def check(self, url: str) -> Destination:
        """Parse a URL; raises InvalidRequest if its host is not in the list."""
        destination = Destination.of(url)
        host, port = destination.host.lower(), destination.port
        address = _address(host)
        for entry in self._entries:
            matches = entry.is_named(host) if address is None else entry.holds(address)
            if matches and entry.takes_port(port):
                return destination
        raise _invalid(f"{destination.host} with port {port} is not among the hosts that PROMPTIR_WEBHOOK_HOSTS allows")

    async def resolve(self, destination: Destination) -> list[str]:
        """Return the addresses of a host that may be connected to; raises WebhookRefused if there are none.

        The caller connects to one of these, so that no second answer of a name server can lead elsewhere.
        """
        asked = partial(socket.getaddrinfo, destination.host, destination.port)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        except (OSError, UnicodeError) as error:
            raise WebhookRefused(f"the host has no address: {error}") from error
        addresses = dict.fromkeys(str(socket_address[0]) for *_, socket_address in found)
        allowed = [text for text in addresses if self._is_allowed(_address(text), destination.port)]
        if not allowed:
            raise WebhookRefused("the host has internal addresses only, which PROMPTIR_WEBHOOK_HOSTS does not list")
        return allowed

    def close(self) -> None:
        """End the threads that ask name servers; answers that are late are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_allowed(self, address: Address | None, port: int) -> bool:
        if address is None or "%" in str(address):  # only link-local addresses have a scope
            return False
        return _is_public(address) or any(
            entry.holds(address) and entry.port in (None, port) for entry in self._entries
        )


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_public(address: Address) -> bool:
    if any(address in network for network in _TRANSLATED if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The webhook is not accepted: {reason}.")
