"""Tests of a short soak, and of its verdict on growth."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "loadtests"
TIMEOUT_S = 90


def test_a_soak_tells_each_minute_and_holds_every_answer_to_its_pixels(tmp_path: Path) -> None:
    figures = tmp_path / "minutes.json"
    command = [sys.executable, FOLDER / "soak.py", "--minutes", "2", "--minute-s", "2", "--rate", "20"]
    finished = subprocess.run(
        [*command, "--json", figures], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    minutes: list[dict[str, Any]] = json.loads(figures.read_text())
    assert [minute["minute"] for minute in minutes] == [0, 1, 2]
    for minute in minutes:
        assert minute["restored"] > 0
        assert set(minute["others"]) <= {"cancelled", "rejected", "job done"}
        assert f"| {minute['sent']} | {minute['restored']} |" in finished.stdout
    judged = {line[:44].strip(): line.endswith("MISSED") for line in finished.stdout.splitlines() if " (limit " in line}
    # Over seconds, memory and p99 are noise; only descriptors and outcomes are checked.
    assert judged["unexpected outcomes"] is False
    assert judged["descriptors: growth"] is False
    assert finished.returncode == any(judged.values())


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the module of the load."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import soak_load

    return soak_load


@pytest.fixture
def missed(load: ModuleType) -> Callable[..., list[str]]:
    """Return the exceeded limits of a soak of six minutes with the given figures."""
    import soak_verdict

    def judge(
        memory: Callable[[int], float] = lambda _: 100.0,
        p99: Callable[[int], float] = lambda _: 50.0,
        threads: Callable[[int], int] = lambda _: 8,
        descriptors: Callable[[int], int] = lambda _: 20,
        outcome: str = "restored",
    ) -> list[str]:
        minutes = [
            load.Minute(
                number,
                load.Counter({outcome: 10}),
                [p99(number)] * 10,
                [load.ProcessSample(memory(number), descriptors(number), threads(number))],
            )
            for number in range(8)
        ]
        return [check.name.partition(":")[0] for check in soak_verdict.verdict(minutes) if not check.holds]

    return judge


def test_what_stays_as_it_is_passes_and_the_warm_up_may_grow(missed: Callable[..., list[str]]) -> None:
    assert missed() == []
    assert missed(memory=lambda minute: 100 if minute else 50, p99=lambda minute: 50 if minute else 900) == []


def test_what_grows_is_missed(missed: Callable[..., list[str]]) -> None:
    assert missed(memory=lambda minute: 100 + minute) == ["memory"]
    assert missed(p99=lambda minute: 50 + 10 * minute) == ["p99"]
    assert missed(threads=lambda minute: 8 + minute) == ["threads"]
    assert missed(descriptors=lambda minute: 20 + minute) == ["descriptors"]
    assert missed(outcome="500") == ["unexpected outcomes"]
