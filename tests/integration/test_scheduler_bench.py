"""`make bench` in small: the script itself, on two short rows."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "loadtests" / "scheduler_bench.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script wrote, with the text of its table under `text`."""
    output = tmp_path_factory.mktemp("bench") / "scheduler"
    command = [sys.executable, str(SCRIPT), "--seconds", "0.6", "--output", str(output)]
    finished = subprocess.run(
        [*command, "--rounds", "2", "--rows", "clients8", "mixed32"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    text = output.with_suffix(".md").read_text()
    assert text in finished.stdout
    return {"text": text, **json.loads(output.with_suffix(".json").read_text())}


def test_the_reference_and_the_server_are_measured_under_the_same_load(report: dict[str, Any]) -> None:
    trials = {(trial["row"], trial["peer"]): trial for trial in report["trials"]}
    assert trials.keys() == {(row, peer) for row in ("clients8", "mixed32") for peer in ("ours", "reference")}
    turns = [trial["peer"] for trial in report["trials"] if trial["row"] == "clients8"]
    assert turns == ["ours", "reference", "reference", "ours"]
    for trial in trials.values():
        assert set(trial["outcomes"]) == {"200"}
        assert 0 < trial["throughput_per_s"] <= trial["ideal_per_s"] * 1.1  # a burst may end at the edge of the window
        assert trial["server_cpu_ms"] > 0
        assert trial["resident_mb"] > 20
    # The device counts what it ran: as many images as clients were answered, but for those at the edges.
    ours = trials["clients8", "ours"]
    assert ours["device"]["images"] == pytest.approx(ours["throughput_per_s"] * ours["seconds"], abs=16)


def test_the_ideal_is_that_of_the_issue(report: dict[str, Any]) -> None:
    ideals = {trial["row"]: round(trial["ideal_per_s"]) for trial in report["trials"]}
    assert ideals == {"clients8": 364, "mixed32": 511}


def test_each_line_has_the_aim_the_ratio_and_the_verdict(report: dict[str, Any]) -> None:
    for line in report["table"]:
        ours, reference = (
            [_percent(trial) for trial in report["trials"] if (trial["row"], trial["peer"]) == (line["row"], peer)]
            for peer in ("ours", "reference")
        )
        assert line["ours"] == pytest.approx(median(ours))
        ratios = [own / other for own, other in zip(ours, reference, strict=True)]
        assert line["ratio"] == pytest.approx(median(ratios))
        assert line["met"] is (line["ours"] >= float(line["aim"].split()[2]))
        assert f"{line['ours']:.2f} %" in report["text"]
        assert line["aim"] in report["text"]


def _percent(trial: dict[str, Any]) -> float:
    percent: float = 100 * trial["throughput_per_s"] / trial["ideal_per_s"]
    return percent


def test_where_it_was_measured_is_told(report: dict[str, Any]) -> None:
    provenance = report["provenance"]
    assert provenance["versions"]["aiohttp"]
    assert provenance["cores"] >= provenance["usable_cores"] >= 1
    assert provenance["late_wake_ups_ms"]["max"] >= provenance["late_wake_ups_ms"]["p50"]
    assert provenance["cpu"] in report["text"]
