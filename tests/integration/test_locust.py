"""Each locust scenario in small, against a real server, and the verdict of its thresholds."""

import ast
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "loadtests" / "locust"
SCENARIOS = ("steady", "ramp", "spike", "soak", "mixed_sizes", "big_uploads", "bad_inputs", "cancelling")
# How quick the answers are on a machine that does other things as well is not what is tested here.
UNHURRIED = ("--max-p95-ms", "60000", "--max-last-p95-ms", "60000")
SECONDS, CLIENTS, TIMEOUT_S = 3, 8, 90

Locust = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def loaded(session_start: Any) -> Any:
    """A server for these loads alone: what they leave in its counters concerns nobody else."""
    return session_start().until_ready()


@pytest.fixture(scope="module")
def locust(loaded: Any) -> Locust:
    """Begin a run of a scenario against the server."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def begin(scenario: str, *arguments: object) -> "subprocess.Popen[str]":
        file = FOLDER / f"{scenario}.py"
        return subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", file, "--host", loaded.url, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


@pytest.fixture(scope="module")
def outcomes(locust: Locust, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and HTML report of every scenario; some at the same time, which is quicker."""
    folder = tmp_path_factory.mktemp("reports")
    results: dict[str, tuple[int, str]] = {}
    for names in (SCENARIOS[:4], SCENARIOS[4:]):
        runs = {name: locust(name, *short("--html", folder / f"{name}.html"), *UNHURRIED) for name in names}
        results |= {name: ended(run) for name, run in runs.items()}
    return {name: (*result, (folder / f"{name}.html").read_text()) for name, result in results.items()}


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and output of a run."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output


def short(*arguments: object) -> list[object]:
    return ["--headless", "--seconds", SECONDS, "--clients", CLIENTS, *arguments]


def test_every_scenario_is_tried() -> None:
    shared = {"clients", "locustfile", "scenario", "thresholds"}
    assert {path.stem for path in FOLDER.glob("*.py")} - shared == set(SCENARIOS)


def test_the_locustfile_has_the_classes_of_every_scenario() -> None:
    named = {}
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text())
        named[path.stem] = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    (listed,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((FOLDER / "locustfile.py").read_text()).body
        if isinstance(node, ast.Assign)
    )
    of_locust = {name for scenario in SCENARIOS for name in named[scenario]} - {"Bad"}
    assert set(listed) == of_locust


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_passes_on_a_sound_server(scenario: str, outcomes: dict[str, tuple[int, str, str]]) -> None:
    code, output, report = outcomes[scenario]
    assert code == 0, output
    assert "MISSED" not in output
    assert "restore" in report
    shown = re.search(r'<section id="thresholds".*?</section>', report, re.DOTALL)
    assert shown is not None
    assert "Thresholds: passed" in shown[0]
    assert "share of errors" in shown[0]


def test_the_server_has_seen_the_cancelling_clients_go(outcomes: dict[str, tuple[int, str, str]], loaded: Any) -> None:
    assert any(line.split()[1:2] == ["left"] for line in outcomes["cancelling"][1].splitlines())
    assert loaded.metric('promptir_requests_total{outcome="client-closed",status="499"}') > 0


def test_the_web_interface_offers_every_scenario_and_its_report_shows_the_thresholds(locust: Locust) -> None:
    port = free_port()
    run = locust("locustfile", "--class-picker", "--web-host", "127.0.0.1", "--web-port", port, "--seconds", 2)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as browser:
            page = until(lambda: browser.get("/"), seconds=TIMEOUT_S)
            offered = page.text
            assert [name for name in ("Steady", "Spike", "BigUploads", "OncePerSecond") if name not in offered] == []
            form = {"shape_class": "Steady", "user_classes": ["OncePerSecond", "Offender"]}
            assert browser.post("/swarm", data=form).json()["success"] is True
            until(lambda: browser.get("/stats/requests").json()["state"] == "stopped", seconds=TIMEOUT_S)
            sent = {entry["name"] for entry in browser.get("/stats/requests").json()["stats"]}
            assert sent == {"restore", "Aggregated"}, "a scenario brings its own users"
            report = browser.get("/stats/report").text
            assert "p95 of answers, ms" in report
            assert 'id="thresholds"' in report
    finally:
        run.terminate()
        ended(run)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(tried: Callable[[], Any], seconds: float) -> Any:
    """Return what is tried once it is true and raises no error of the connection."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := tried():
                return found
        except httpx.TransportError:
            pass  # it has not begun to listen
        time.sleep(0.2)
    raise AssertionError("the condition never held")


def test_a_threshold_that_is_missed_is_told_and_the_exit_code_is_1(locust: Locust) -> None:
    code, output = ended(locust("steady", *short("--max-p95-ms", "0.1")))
    assert code == 1
    assert [line.split()[:4] for line in output.splitlines() if line.endswith("MISSED")] == [
        ["p95", "of", "answers,", "ms"]
    ]


def test_wrong_answers_are_errors_and_refusals_are_told_apart(locust: Locust, start: Any) -> None:
    # Of this server every image is too large, and then every one is too many.
    for settings, missed in (({"max_image_pixels": 1}, "errors"), ({"max_backlog_ms": 1e-3}, "refusals")):
        with_limit = start(**settings).until_ready()
        code, output = ended(locust("steady", *short("--host", with_limit.url, *UNHURRIED)))
        assert code == 1
        lines = [line for line in output.splitlines() if line.endswith("MISSED")]
        assert f"share of {missed}" in "".join(lines), output
        assert ("share of errors" in "".join(lines)) is (missed == "errors")


def test_a_master_and_two_workers_give_one_verdict(locust: Locust) -> None:
    port = free_port()
    master = locust("steady", *short("--master", "--expect-workers", 2, "--master-bind-port", port), *UNHURRIED)
    workers = [locust("steady", "--worker", "--master-port", port) for _ in range(2)]
    code, output = ended(master)
    assert code == 0, output
    assert "threshold" in output
    for worker in workers:
        assert ended(worker)[0] == 0
