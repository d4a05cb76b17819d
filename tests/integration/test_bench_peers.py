"""The peer benchmark runs with the peers that need no further packages."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "loadtests/bench_peers.py"


def test_the_script_and_this_server_are_measured_on_every_load(tmp_path: Path) -> None:
    chosen = [
        "--peers",
        "script",
        "this-server",
        "--seconds",
        "0.5",
        "--rounds",
        "1",
        "--output",
        str(tmp_path / "figures"),
    ]
    done = subprocess.run([sys.executable, SCRIPT, *chosen], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["server"] for row in rows] == ["script", "this-server"] * 4
    assert all(row["per_s"] > 0 and row["failed"] == 0 and row["cpu_ms"] > 0 for row in rows)
    table = (tmp_path / "figures.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert table[2].split(" | ")[3] == "1.00"
