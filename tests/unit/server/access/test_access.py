"""Tests of authentication while the keys file changes."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.access.access import CHECK_INTERVAL_S, Access
from server.access.keys_file import Terms, new_key, read_keys
from server.errors import Forbidden, KeysUnavailable, QuotaExceeded, Unauthorized
from server.metrics import Metrics


class Site:
    """Access to a keys file, with a fake clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.access = Access(path, Metrics(self.registry), lambda: self.now)
        self._writes = 0

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(lines))
        self._writes += 1
        os.utime(self.path, ns=(self._writes, self._writes))  # as a precise clock would

    def enter(self, key: str) -> Any:
        return self.access.enter([(b"host", b"x"), (b"authorization", f"Bearer {key}".encode())])

    def label(self, name: str) -> str:
        return read_keys(self.path).labels()[name]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "keys")


def test_both_headers_are_taken_and_nothing_else(site: Site) -> None:
    key, line = new_key("ada", Terms())
    site.write(line)
    site.access.open()
    for headers in (
        [(b"authorization", f"Bearer {key}".encode())],
        [(b"authorization", f"bEaReR  {key} ".encode())],
        [(b"x-api-key", key.encode())],
        [(b"authorization", b"Basic YTpi"), (b"x-api-key", key.encode())],
    ):
        assert site.access.enter(headers).name == "ada"
    for headers in (
        [],
        [(b"authorization", key.encode())],
        [(b"authorization", b"Bearer ")],
        [(b"x-api-key", key[:-1].encode())],
        [(b"x-api-key", b"\xff" * 600)],
        [(b"cookie", f"key={key}".encode())],
        [(b"x-api-key", line.split("sha256:")[1].encode())],  # the hash is not a key
    ):
        with pytest.raises(Unauthorized):
            site.access.enter(headers)


def test_keys_are_rotated_while_it_runs_and_quotas_stay_with_the_client(site: Site) -> None:
    terms = Terms(requests_per_minute=2)
    (old, old_line), (new, new_line) = new_key("ada", terms), new_key("ada", terms)
    site.write(old_line)
    site.access.open()
    site.enter(old).charge_request()
    site.write(old_line, new_line)
    with pytest.raises(Unauthorized):
        site.enter(new)  # the file is checked once per second
    site.now += CHECK_INTERVAL_S
    site.enter(new).charge_request()
    with pytest.raises(QuotaExceeded) as exceeded:
        site.enter(old).charge_request()
    assert exceeded.value.retry_after_s == pytest.approx(30 - CHECK_INTERVAL_S)
    site.write(new_line)
    site.now += CHECK_INTERVAL_S
    with pytest.raises(Unauthorized):
        site.enter(old)
    assert site.enter(new).name == "ada"


def test_a_file_that_is_broken_or_gone_changes_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    key, line = new_key("ada", Terms())
    site.write(line)
    site.access.open()
    site.write("ada promptir_secret")
    for _ in range(3):
        site.now += CHECK_INTERVAL_S
        assert site.enter(key).name == "ada"
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "the keys file cannot be read; the loaded keys stay valid"
    ]
    site.path.unlink()
    site.now += CHECK_INTERVAL_S
    assert site.enter(key).name == "ada"
    site.write("")
    site.now += CHECK_INTERVAL_S
    assert site.enter(key).name == "ada"  # an editor may be writing it
    site.now += CHECK_INTERVAL_S
    with pytest.raises(Unauthorized):
        site.enter(key)
    with pytest.raises(KeysUnavailable):
        Access(site.path.with_name("none"), Metrics(CollectorRegistry())).open()


def test_each_key_is_charged_and_counted_by_its_name(site: Site) -> None:
    ada, ada_line = new_key("ada", Terms(megapixels_per_minute=6))
    bob, bob_line = new_key("bob", Terms(suspended=True))
    site.write(ada_line, bob_line)
    site.access.open()
    caller = site.enter(ada)
    caller.charge_request()
    caller.charge_pixels(4_000_000)
    with pytest.raises(QuotaExceeded, match="6 megapixels per minute") as exceeded:
        caller.charge_pixels(4_000_000)
    assert exceeded.value.retry_after_s == pytest.approx(20)
    assert exceeded.value.extensions == {"megapixels_per_minute": 6}
    site.now += 20
    caller.charge_pixels(4_000_000)
    with pytest.raises(Forbidden, match="suspended"):
        site.enter(bob)
    assert site.value("promptir_key_requests_total", key=site.label("ada")) == 1
    assert site.value("promptir_key_requests_total", key=site.label("bob")) == 0
    assert site.value("promptir_key_pixels_total", key=site.label("ada")) == 8_000_000
    assert site.value("promptir_key_refusals_total", key=site.label("ada"), reason="megapixels") == 1
    assert site.value("promptir_key_refusals_total", key=site.label("bob"), reason="suspended") == 1
    assert site.value("promptir_refusals_total", reason="quota-exceeded") == 1


def test_a_good_key_counts_beside_whatever_a_proxy_adds(site: Site) -> None:
    ada, ada_line = new_key("ada", Terms())
    eve, eve_line = new_key("eve", Terms(suspended=True))
    site.write(eve_line, ada_line)
    site.access.open()
    good, bad = ada.encode(), b"promptir_other"
    for headers in (
        [(b"authorization", b"Bearer " + bad), (b"x-api-key", good)],
        [(b"authorization", b"Bearer " + good), (b"x-api-key", bad)],
        [(b"x-api-key", bad), (b"x-api-key", good)],
        [(b"x-api-key", good), (b"x-api-key", bad)],
        [(b"authorization", b"Bearer " + bad), (b"authorization", b"bearer\t" + good)],
        [(b"x-api-key", bad + b", " + good)],
        [(b"authorization", b"Basic YTpi, Bearer " + good + b",")],
        [(b"authorization", b"Bearer " + eve.encode()), (b"x-api-key", good)],
        [(b"x-api-key", b""), (b"authorization", b"Negotiate x=="), (b"x-api-key", good)],
        [(b"authorization", b""), (b"authorization", b"Bearer"), (b"x-api-key", b"y" * 5000), (b"x-api-key", good)],
    ):
        assert site.access.enter(headers).name == "ada", headers
    with pytest.raises(Forbidden, match="eve"):
        site.access.enter([(b"authorization", b"Bearer " + bad), (b"x-api-key", eve.encode())])
    with pytest.raises(Unauthorized):  # no more keys are looked up
        site.access.enter([(b"x-api-key", b",".join([bad] * 20_000 + [good]))])


@pytest.mark.parametrize("words", [" suspended", " requests_per_minute=60 suspended"])
def test_a_suspended_key_stays_so_wherever_its_line_is_cut(words: str, site: Site) -> None:
    key, line = new_key("eve", Terms())
    _, other = new_key("ada", Terms())
    site.write(line + words, other)
    site.access.open()
    for end in range(len(line + words) + 1):
        site.write(other, (line + words)[:end])
        site.now += CHECK_INTERVAL_S
        with pytest.raises((Forbidden, Unauthorized)):
            site.enter(key)
    site.write(other, line, "")
    site.now += CHECK_INTERVAL_S
    assert site.enter(key).name == "eve"


def test_a_limit_is_not_read_from_a_line_that_is_cut(site: Site) -> None:
    terms = Terms(requests_per_minute=60, megapixels_per_minute=20)
    key, line = new_key("ada", terms)
    site.write(line, "")
    site.access.open()
    for end in range(1, 62):
        site.write(line[:-end])
        site.now += CHECK_INTERVAL_S
        assert site.enter(key).terms == terms
    site.write(line.removesuffix("0"), "")
    site.now += CHECK_INTERVAL_S
    assert site.enter(key).terms == Terms(requests_per_minute=60, megapixels_per_minute=2)


def test_a_new_client_comes_in_once_its_line_has_an_end(site: Site) -> None:
    key, line = new_key("ada", Terms())
    site.write(new_key("bob", Terms())[1])
    site.access.open()
    site.write(line)
    site.now += CHECK_INTERVAL_S
    with pytest.raises(Unauthorized):
        site.enter(key)
    site.write(line, "")
    site.now += CHECK_INTERVAL_S
    assert site.enter(key).name == "ada"


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "huge"])
def test_what_takes_the_place_of_the_file_is_never_waited_for(kind: str, site: Site) -> None:
    key, line = new_key("ada", Terms())
    site.write(line)
    site.access.open()
    site.path.unlink()
    if kind == "pipe":
        os.mkfifo(site.path)
    elif kind == "endless":
        site.path.symlink_to("/dev/zero")
    elif kind == "folder":
        site.path.mkdir()
    else:
        site.path.touch()
        os.truncate(site.path, 1 << 40)
    for _ in range(2):
        site.now += CHECK_INTERVAL_S
        assert site.enter(key).name == "ada"
    with pytest.raises(KeysUnavailable):
        Access(site.path, Metrics(CollectorRegistry())).open()


def test_the_metrics_name_no_client_and_go_on_under_the_same_label(site: Site) -> None:
    key, line = new_key("ada", Terms())
    site.write(line)
    site.access.open()
    site.enter(key).charge_request()
    labels = {
        sample.labels["key"]
        for metric in site.registry.collect()
        for sample in metric.samples
        if "key" in sample.labels
    }
    assert labels == {site.label("ada")}
    assert "ada" not in "".join(labels)
    again = Site(site.path)
    again.access.open()
    again.enter(key).charge_request()
    assert again.value("promptir_key_requests_total", key=site.label("ada")) == 1
    new, new_line = new_key("ada", Terms())
    site.write(new_line)
    site.now += CHECK_INTERVAL_S
    site.enter(new).charge_request()
    assert site.value("promptir_key_requests_total", key=site.label("ada")) == 1
