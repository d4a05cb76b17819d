"""Tests of the hosts that webhooks may be sent to."""

import asyncio
import socket
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.jobs.webhook_hosts import WebhookHosts, WebhookRefused

LIST = (
    "hooks.example",
    "odd.example:8443",
    "*.wild.example",
    "10.1.2.3",
    "[::1]:9000",
    "192.168.0.0/24",
    "127.0.0.1:9000",
)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/path?a=b",
        "http://HOOKS.example./",
        "https://odd.example:8443/",
        "https://a.b.wild.example/",
        "http://10.1.2.3/",
        "http://[::1]:9000/",
        "http://[::ffff:10.1.2.3]/",
        "https://192.168.0.77/",
    ],
)
def test_a_listed_host_is_allowed(url: str) -> None:
    assert WebhookHosts(LIST).check(url).port in (80, 443, 8443, 9000)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "https://hooks.example.evil.example/",
        "https://evil-hooks.example/",
        "https://hooks.example:22/",
        "https://odd.example/",
        "https://wild.example/",
        "https://a..wild.example/",
        "https://.wild.example/",
        f"https://{'a' * 64}.wild.example/",
        "https://evilwild.example/",
        "http://10.1.2.4/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1:9000/",
        "http://127.1:9000/",
        "http://[::1]/",
        "https://user@hooks.example/",
        "https://hooks.example@evil.example/",
        "https://evil.example#@hooks.example/",
        "https://evil.example\\@hooks.example/",
        "https://hooks.example\t.evil.example/",
        "https://hooks.example/\r\nHost: evil.example",
        "https://hooks.example:99999/",
        "https://hooks.ex\u00e4mple/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "//hooks.example/",
        "hooks.example",
        "https://",
        "",
        "https://hooks.example/" + "a" * 3000,
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="webhook"):
        WebhookHosts(LIST).check(url)


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: str, allowed: tuple[str, ...] = LIST) -> list[str]:
    """The addresses of hooks.example that may be connected to, if a name server answers these."""

    def answer(host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    hosts = WebhookHosts(allowed)
    try:
        return asyncio.run(hosts.resolve(hosts.check("https://hooks.example/")))
    finally:
        hosts.close()


INTERNAL = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address that must be refused
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("address", INTERNAL)
def test_a_listed_name_does_not_lead_to_an_internal_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WebhookRefused, match="internal"):
        resolved(monkeypatch, address)
    assert resolved(monkeypatch, address, "93.184.215.14") == ["93.184.215.14"]


def test_an_internal_address_is_allowed_if_it_is_listed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, "10.1.2.3", "192.168.0.9", "10.9.9.9") == ["10.1.2.3", "192.168.0.9"]
    assert resolved(monkeypatch, "2606:4700::1111") == ["2606:4700::1111"]
