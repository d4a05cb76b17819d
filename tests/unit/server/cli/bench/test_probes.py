"""Tests of the metrics probe."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from server.cli.bench.probes import MetricsProbe, parse_scrape


def _page(runs: list[tuple[int, float]]) -> str:
    """Build a metrics page with batch sizes, busy seconds and processor time."""
    registry = CollectorRegistry()
    sizes = Histogram("promptir_batch_size", "Jobs per run", registry=registry)
    busy = Counter("promptir_device_busy_seconds", "Seconds in runs", registry=registry)
    for batch_size, seconds in runs:
        sizes.observe(batch_size)
        busy.inc(seconds)
    Counter("process_cpu_seconds", "As the process collector names it", registry=registry).inc(len(runs) * 0.5)
    return generate_latest(registry).decode()


class Pages:
    """Fake Sender that returns one page after another."""

    def __init__(self, *pages: str | None) -> None:
        self.pages = list(pages)
        self.urls: list[str] = []

    async def get_text(self, url: str) -> str | None:
        self.urls.append(url)
        return self.pages.pop(0)


def _probed(*pages: str | None) -> tuple[MetricsProbe, Pages]:
    sender = Pages(*pages)
    probe = MetricsProbe(sender, "http://example.test:81/restore?format=png")  # type: ignore[arg-type]

    async def both() -> None:
        await probe.begin()
        await probe.end()

    asyncio.run(both())
    return probe, sender


def test_the_growth_between_two_scrapes_is_what_the_window_saw() -> None:
    probe, sender = _probed(_page([(2, 0.1)]), _page([(2, 0.1), (8, 0.2), (4, 0.2)]))
    device, server = probe.device(), probe.server()
    assert sender.urls == ["http://example.test:81/metrics"] * 2
    assert device is not None
    assert (device.source, device.runs, device.images, device.mean_batch) == ("metrics", 2, 12, 6)
    assert server is not None
    assert server.cpu_s == pytest.approx(1.0)
    assert device.busy_share == pytest.approx(0.4 / (server.span[1] - server.span[0]))


def test_a_series_per_device_is_summed_and_its_busy_share_averaged() -> None:
    page = 'promptir_device_busy_seconds_total{device="a"} 3\npromptir_device_busy_seconds_total{device="b"} 1\n'
    scrape = parse_scrape(page, 7.0)
    assert scrape is not None
    assert (scrape.read_at, scrape.devices) == (7.0, 2)
    assert scrape.values == {"promptir_device_busy_seconds_total": 4}


@pytest.mark.parametrize("page", [None, "<html>no metrics</html>", "some_other_server_requests_total 5\n"])
def test_a_server_that_tells_nothing_is_not_made_up(page: str | None) -> None:
    probe, _ = _probed(page, page)
    assert probe.device() is None
    assert probe.server() is None
