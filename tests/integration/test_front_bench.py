"""`make bench-front` in small: the script itself on one short case, and how it reads py-spy's samples."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "loadtests"
sys.path.insert(0, str(FOLDER))

from lock_probe import held_of  # noqa: E402


def test_a_case_has_its_figures_and_says_where_it_was_measured(tmp_path: Path) -> None:
    output = tmp_path / "front"
    command = [sys.executable, str(FOLDER / "front_bench.py"), "--seconds", "1", "--clients", "4"]
    finished = subprocess.run(
        [*command, "--cases", "64.png-jpeg", "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads(output.with_suffix(".json").read_text())
    (figures,) = report["figures"]
    assert (figures["case"], figures["subject"]) == ("64.png-jpeg", "ours")
    assert figures["per_s"] > 0
    assert figures["cpu_ms"] == pytest.approx(figures["cores"] / figures["per_s"] * 1e3)
    assert 0 < figures["on_core"] <= 1
    assert f"commit {report['provenance']['commit'][:12]}" in output.with_suffix(".md").read_text()


def test_the_lock_is_attributed_to_the_innermost_module_of_the_server() -> None:
    stacks = [
        "run (/usr/lib/asyncio/runners.py:9);add (/srv/server/formats/png/writer.py:57);f (/lib/numpy/core.py:1) 3",
        "run (/usr/lib/asyncio/runners.py:9);call (/srv/server/http/body/__init__.py:5) 2",
        "loop (/usr/lib/asyncio/base_events.py:1) 5",
    ]
    held = held_of(stacks, 40, Path("/srv"))
    assert held.share == 0.25
    assert held.parts(2) == {"libraries": 0.5, "formats/png/writer": 0.3}
    assert held.modules["http/body"] == 2
