"""Tests of the secrets and signatures of webhooks, and of the settings that name them."""

import asyncio
import base64
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.jobs.webhook_hosts import WebhookHosts, WebhookRefused
from server.jobs.webhook_sender import WebhookSender, read_secrets, signatures
from server.settings import JobSettings

KEY = bytes(range(24))
LINE = f"whsec_{base64.b64encode(KEY).decode()}"


def test_a_signature_is_the_one_of_the_specification() -> None:
    """The example of the specification's reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_secret_of_the_file_signs(tmp_path: Path) -> None:
    other = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    (tmp_path / "secrets").write_text(f"# rotated\n{LINE}\n\n{other}\n")
    secrets = read_secrets(tmp_path / "secrets")
    assert secrets == [KEY, bytes(32)]
    assert len(signatures(secrets, "msg_1", 1, b"").split()) == 2


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "whsec_", "whsec_short", "whsec_!!!!", LINE.removeprefix("whsec_")]
)
def test_a_file_without_good_secrets_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(text)
    with pytest.raises(ValueError, match="secret"):
        read_secrets(tmp_path / "secrets")


@pytest.mark.parametrize("hosts", ["https://hooks.example", "hooks.example/path", "a b", "*", "user@host", "host:"])
def test_a_host_that_is_no_host_is_refused(hosts: str) -> None:
    with pytest.raises(ValidationError, match="a host is a name or an address"):
        JobSettings(jobs_folder=Path("jobs"), webhook_hosts=hosts, webhook_secret_file=Path("secrets"))  # type: ignore[arg-type]


def test_hosts_and_secrets_need_each_other_and_a_folder() -> None:
    with pytest.raises(ValidationError, match="need each other"):
        JobSettings(jobs_folder=Path("jobs"), webhook_hosts=("hooks.example",))
    with pytest.raises(ValidationError, match="need each other"):
        JobSettings(jobs_folder=Path("jobs"), webhook_secret_file=Path("secrets"))
    with pytest.raises(ValidationError, match="JOBS_FOLDER"):
        JobSettings(webhook_hosts=("hooks.example",), webhook_secret_file=Path("secrets"))
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        WebhookHosts(("10.0.0.0/99",))


def test_interim_answers_without_end_are_refused_soon() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
        except OSError:
            writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = WebhookSender(WebhookHosts([f"127.0.0.1:{port}"]), [KEY])
        with pytest.raises(WebhookRefused, match="head of its answer"):
            await sender.send(f"http://127.0.0.1:{port}/", "msg_1", 0, b"{}")
        server.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
