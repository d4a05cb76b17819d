"""Tests of `promptir bench` with real servers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
TWO_SECONDS = ("--seconds", 2, "--warm-up", 0.3)


@pytest.fixture
def bench(command: Command, tmp_path: Path) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Run `promptir bench`; returns its figures."""

    def run(*arguments: object) -> tuple[Any, dict[str, Any]]:
        path = tmp_path / "figures.json"
        finished = command("bench", *arguments, "--json", path)
        assert finished.returncode == 0, finished.stderr + finished.stdout
        return finished, json.loads(path.read_text())

    return run


def cells(table: str, name: str) -> list[str]:
    """Return the cells of a table row."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_closed_loop_tells_what_the_device_and_the_server_did(start: Any, bench: Any, tmp_path: Path) -> None:
    log = tmp_path / "runs.csv"
    server = start(simulated_base_ms=10, simulated_ms_per_megapixel=0, simulated_run_log=log).until_ready()
    finished, figures = bench(server.url, "--clients", 4, "--sizes", "16,24x16.jpeg", *TWO_SECONDS, "--run-log", log)
    latency = figures["latency_ms"]
    assert figures["outcomes"] == {"200": figures["requests"]}
    assert latency["count"] == figures["requests"] > 20
    assert 10 <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["p999"] <= latency["maximum"]
    # Little's law for four waiting clients: requests in flight = throughput times latency, but for those at the edges.
    at_edges = 4 * latency["maximum"] / 2000
    assert figures["throughput_per_s"] * latency["mean"] / 1e3 == pytest.approx(4, abs=0.1 + at_edges)
    assert [kind["name"] for kind in figures["kinds"]] == ["16x16 png", "24x16 jpeg"]
    assert sum(kind["requests"] for kind in figures["kinds"]) == figures["requests"]
    device = figures["device"]
    assert device["source"] == "run log"
    assert device["images"] == pytest.approx(figures["requests"], abs=8)  # 4 in flight at each edge
    assert device["runs"] * 0.010 / 2 == pytest.approx(device["busy_share"], rel=0.1)
    assert figures["server"]["cpu_ms_per_request"] > 0
    assert figures["client_cpu_ms_per_request"] > 0
    assert cells(finished.stdout, "latency, restored")[2] == f"{latency['p50']:.2f}"
    assert f"200 x {figures['requests']}" in finished.stdout


def test_an_open_loop_keeps_its_rate_and_counts_goodput(server: Any, bench: Any) -> None:
    finished, figures = bench(server.url, "--rate", 60, "--sizes", 16, *TWO_SECONDS, "--deadline-ms", 5000)
    assert figures["offered_per_s"] == pytest.approx(60, rel=0.4)  # 120 expected, deviation 11
    assert figures["goodput_per_s"] == figures["throughput_per_s"] > 0
    assert figures["lateness_ms"]["count"] == figures["requests"]
    assert figures["device"]["source"] == "metrics"
    assert 0 < figures["device"]["busy_share"] < 1
    assert cells(finished.stdout, "sender's lateness")[1] == str(figures["requests"])
    _, again = bench(server.url, "--rate", 60, "--sizes", 16, *TWO_SECONDS, "--arrivals", "even")
    assert again["offered_per_s"] == pytest.approx(60, rel=0.02)
    assert again["goodput_per_s"] is None


def test_overload_is_counted_as_refused_and_not_as_served(start: Any, bench: Any) -> None:
    server = start(simulated_base_ms=50, max_batch=1, max_queued_pixels=4 * 16 * 16).until_ready()
    finished, figures = bench(server.url, "--rate", 100, "--sizes", 16, *TWO_SECONDS)
    refused = figures["outcomes"]["429 queue-full"]
    assert refused > figures["outcomes"]["200"] > 0
    assert refused == figures["refusal_ms"]["count"]
    assert figures["throughput_per_s"] < 25  # the device runs 20 per second
    assert figures["retry_after_s"][0] >= 1
    assert f"429 queue-full x {refused}" in finished.stdout
    assert server.metric('promptir_refusals_total{reason="queue-full"}') >= refused


def test_a_form_a_deadline_and_a_priority_reach_the_server(start: Any, bench: Any) -> None:
    # One run is in time and two are not, each by half a second.
    server = start(simulated_base_ms=600, max_batch=1).until_ready()
    _, figures = bench(
        server.url,
        "--form",
        "file",
        "--sizes",
        16,
        "--clients",
        4,
        *TWO_SECONDS,
        "--deadline-ms",
        1100,
        "--send-deadline",
    )
    assert figures["outcomes"].keys() > {"200"}  # the others would miss the deadline, which the server knows
    assert not [outcome for outcome in figures["outcomes"] if outcome.startswith("4") and "429" not in outcome]


def test_an_upload_that_is_too_large_is_told_apart_from_the_others(start: Any, bench: Any) -> None:
    server = start(max_image_pixels=1000).until_ready()
    _, figures = bench(server.url, "--sizes", "16:3,64", "--clients", 2, *TWO_SECONDS)
    small, large = figures["kinds"]
    assert set(small["outcomes"]) == {"200"}
    assert set(large["outcomes"]) == {"413 image-too-large"}


def test_a_server_that_is_not_there_is_said_and_fails(command: Command) -> None:
    finished = command("bench", "http://127.0.0.1:9", "--seconds", 0.2, "--warm-up", 0, "--sizes", 8)
    assert finished.returncode == 1
    assert "cannot connect" in finished.stdout


def test_without_the_extra_the_command_says_what_to_install_and_the_others_work() -> None:
    hidden = "import sys; sys.modules['aiohttp'] = None; from server.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-c", hidden, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    finished = run("bench", "http://127.0.0.1:9")
    assert finished.returncode == 1
    assert finished.stderr == ("promptir: bench needs the package aiohttp: run pip install 'promptir-serve[bench]'\n")
    assert run("serve", "--help").returncode == 0
