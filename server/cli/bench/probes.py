"""Probe of a server's Prometheus metrics at both ends of the measured window."""

import time
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.parser import text_string_to_metric_families

from server.cli.bench.run_log import DeviceUse
from server.cli.bench.sender import Sender

_RUNS = "promptir_batch_size_count"
_IMAGES = "promptir_batch_size_sum"
_BUSY = "promptir_device_busy_seconds_total"
_CPU = "process_cpu_seconds_total"
_MEMORY = "process_resident_memory_bytes"
_WANTED = (_RUNS, _IMAGES, _BUSY, _CPU, _MEMORY)


@dataclass(frozen=True)
class Scrape:
    """One reading of the relevant series: sums over labels, at a time of time.perf_counter."""

    read_at: float
    values: dict[str, float]
    devices: int


def parse_scrape(text: str, read_at: float) -> Scrape | None:
    """Parse a page in the Prometheus text format; returns None if it is not one."""
    values: dict[str, float] = {}
    devices = set()
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in _WANTED:
                    values[sample.name] = values.get(sample.name, 0.0) + sample.value
                if sample.name == _BUSY:
                    devices.add(tuple(sorted(sample.labels.items())))
    except ValueError:
        return None
    return Scrape(read_at, values, len(devices))


@dataclass(frozen=True)
class ServerUse:
    """CPU time of the server over a time span, and its memory at the end."""

    span: tuple[float, float]
    cpu_s: float
    resident_bytes: float | None


class MetricsProbe:
    """Scrapes the metrics at both ends of the window."""

    def __init__(self, sender: Sender, url: str) -> None:
        self._sender = sender
        parts = urlsplit(url)
        self._url = urlunsplit((parts.scheme, parts.netloc, "/metrics", "", ""))
        self._before: Scrape | None = None
        self._after: Scrape | None = None

    async def begin(self) -> None:
        self._before = await self._scrape()

    async def end(self) -> None:
        self._after = await self._scrape()

    def device(self) -> DeviceUse | None:
        """Return mean batch size and busy share as reported by the server; None if it does not report them."""
        if self._before is None or self._after is None or _BUSY not in self._after.values:
            return None
        growth = _growth(self._before, self._after)
        runs, images = round(growth[_RUNS]), round(growth[_IMAGES])
        busy_share = growth[_BUSY] / (self._after.read_at - self._before.read_at) / self._after.devices
        return DeviceUse("metrics", images / runs if runs else None, busy_share, runs, images)

    def server(self) -> ServerUse | None:
        """Return CPU time and memory of the server's process; None if it does not report them."""
        if self._before is None or self._after is None or _CPU not in self._after.values:
            return None
        span = (self._before.read_at, self._after.read_at)
        cpu_s = _growth(self._before, self._after)[_CPU]
        return ServerUse(span, cpu_s, self._after.values.get(_MEMORY))

    async def _scrape(self) -> Scrape | None:
        text = await self._sender.get_text(self._url)
        return None if text is None else parse_scrape(text, time.perf_counter())


def _growth(before: Scrape, after: Scrape) -> dict[str, float]:
    return {name: after.values.get(name, 0.0) - before.values.get(name, 0.0) for name in _WANTED}
