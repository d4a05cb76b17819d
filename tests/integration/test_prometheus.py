"""Tests with a real Prometheus that scrapes a real server: rules and dashboard find their metrics."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
MONITORING = PROJECT / "docker" / "monitoring"
PHOTO = PROJECT / "tests" / "photos" / "pier.jpg"
WAIT_S = 60.0
POLL_S = 0.2
TRACE = "0af7651916cd43dd8448eb211c80319c"
RANGE = "10s"
"""Takes the place of the dashboard's own range; ten scrapes at the interval below."""

# A healthy server does not compare with FP32, and a server without a GPU has no GPU metrics.
QUIET = ("promptir_parity_db_bucket", "promptir_gpu_")
QUIET_QUERIES = 2 + 5


class Prometheus:
    """Running Prometheus that evaluates PromQL."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def until(self, expression: str) -> list[dict[str, Any]]:
        """Poll until the expression has a numeric sample."""
        give_up = time.monotonic() + WAIT_S
        while not (found := [series for series in self.query(expression) if series["value"][1] != "NaN"]):
            assert time.monotonic() < give_up, f"{expression} has no sample"
            time.sleep(POLL_S)
        return found


def configuration(server: Any, folder: Path) -> Path:
    """Write Compose's configuration with another target and shorter intervals, and the unchanged rules."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.pop("alerting")
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "promptir")
    job.pop("dns_sd_configs")
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    config["scrape_configs"] = [job]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(MONITORING / "rules.yml", folder)
    return folder / "prometheus.yml"


def features() -> list[str]:
    """Return the Prometheus features that Compose enables."""
    services = yaml.safe_load((MONITORING.parent / "compose.yaml").read_text())["services"]
    return [flag for flag in services["prometheus"]["command"] if flag.startswith("--enable-feature")]


@pytest.fixture(scope="module")
def watched(session_start: Any) -> Any:
    """Start a separate server, since these tests change its metrics; its trace collector does not exist."""
    return session_start(tracing=True).until_ready()


@pytest.fixture(scope="module")
def prometheus(watched: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={configuration(watched, folder)}",
        f"--storage.tsdb.path={folder / 'data'}",
        *features(),
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log, cwd=folder) as process:
        try:
            url = ready(f"http://127.0.0.1:{port}", process, folder / "log")
            with httpx.Client(base_url=url, timeout=WAIT_S) as client:
                yield Prometheus(client)
        finally:
            process.terminate()


def ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return url
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def traffic(watched: Any, prometheus: Prometheus) -> None:
    """Send requests of each kind with a scrape in between, because a rate needs two."""
    prometheus.until('up{job="promptir"} == 1')
    for _ in range(2):
        before = watched.metric('promptir_batch_size_count{model="identity"}')
        for _ in range(5):
            assert watched.client.post("/restore", content=PHOTO.read_bytes()).status_code == 200
        assert watched.client.post("/restore", content=b"not an image").status_code == 415
        assert watched.metric('promptir_batch_size_count{model="identity"}') > before
        total = watched.metric('promptir_batch_size_sum{model="identity"}')
        prometheus.until(f"promptir_batch_size_sum == {total}")


def dashboard_queries() -> list[str]:
    dashboard = json.loads((PROJECT / "k8s" / "monitoring" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [text.replace("$__rate_interval", RANGE).replace("$instance", ".*") for text in expressions]


@pytest.mark.usefixtures("traffic")
def test_every_query_of_the_dashboard_has_series(prometheus: Prometheus) -> None:
    queries = dashboard_queries()
    lively = [expression for expression in queries if not any(name in expression for name in QUIET)]
    assert len(queries) - len(lively) == QUIET_QUERIES
    for expression in lively:
        for series in prometheus.until(expression):
            assert float(series["value"][1]) >= 0, expression


@pytest.mark.usefixtures("traffic")
def test_the_quiet_queries_of_the_dashboard_are_understood(prometheus: Prometheus) -> None:
    for expression in dashboard_queries():
        prometheus.query(expression)


def test_a_point_of_the_histograms_leads_to_the_trace_of_a_request(watched: Any, prometheus: Prometheus) -> None:
    asked = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert watched.client.post("/restore", content=PHOTO.read_bytes(), headers=asked).status_code == 200
    give_up = time.monotonic() + WAIT_S
    found: set[str] = set()
    while TRACE not in found:
        assert time.monotonic() < give_up, found
        query = {
            "query": 'promptir_stage_duration_seconds_bucket{stage="total"}',
            "start": time.time() - WAIT_S,
            "end": time.time() + 1,
        }
        series = prometheus.client.get("/api/v1/query_exemplars", params=query).json()["data"]
        found = {exemplar["labels"]["trace_id"] for one in series for exemplar in one["exemplars"]}


@pytest.mark.usefixtures("traffic")
def test_the_recorded_objectives_are_met_by_a_healthy_server(prometheus: Prometheus) -> None:
    (errors,) = prometheus.until("promptir:error_ratio:rate5m")
    assert float(errors["value"][1]) == 0
    (slow,) = prometheus.until("promptir:slow_ratio:rate5m")
    assert float(slow["value"][1]) == 0
    (busy,) = prometheus.until("promptir:device_busy_ratio:rate5m")
    assert 0 < float(busy["value"][1]) < 1


@pytest.mark.usefixtures("traffic")
def test_no_alert_fires_on_a_healthy_server(prometheus: Prometheus) -> None:
    groups = prometheus.client.get("/api/v1/rules", params={"type": "alert"}).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 10
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    # On a busy machine runs of a millisecond are hard to predict, so this alert may be pending.
    stirring = {rule["name"] for rule in rules if rule["state"] != "inactive"}
    assert stirring <= {"PromptirCostModelWrong"}


@pytest.mark.usefixtures("traffic")
def test_the_page_of_metrics_passes_promtool(watched: Any) -> None:
    page = watched.client.get("/metrics").content
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    complaints = [line for line in checked.stderr.decode().splitlines() if line.startswith("promptir_")]
    assert complaints == []
