"""Chaos test: injects faults into a server under load and checks its clients' results (docs/reliability.md).

Run as `python loadtests/chaos.py [FAULT ...] [--seconds 30] [--json FILE]`; it exits with 1 if any response was wrong,
lost or not explained by the fault.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from chaos_faults import FAULTS, Row

SECONDS = 30.0
SHOWN_LINES = 20


async def main() -> int:
    """Inject the faults one by one, each into a new server, and print the figures as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"some of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="duration of each fault (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"unknown fault: {', '.join(sorted(unknown))}")
    rows = []
    print("| fault | injected | requests | restored | retries | jobs accepted | jobs done | jobs failed | lost | wrong "
          "| longest (s) |\n|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in arguments.faults or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            row = await FAULTS[name](Path(folder), arguments.seconds)
            if not row.sound:
                print_warnings(Path(folder) / "server.log")
        rows.append((name, row))
        print(line(row), flush=True)
    print()
    for _, row in rows:
        print(details(row))
    if arguments.json is not None:
        figures = {name: vars(row) | {"counts": vars(row.counts), "sound": row.sound} for name, row in rows}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(not all(row.sound for _, row in rows))


def print_warnings(log: Path) -> None:
    """Print the server's warnings and errors."""
    lines = [line[:1000] for line in log.read_text().splitlines() if '"level": "INFO"' not in line]
    print("\n".join(lines[-SHOWN_LINES:]), file=sys.stderr)


def line(row: Row) -> str:
    """Format a row of the table."""
    counts = row.counts
    retried, reported = counts.retried.total(), counts.reported.total()
    figures = (
        row.faults,
        counts.requests,
        counts.restored,
        retried,
        counts.accepted,
        counts.done,
        reported,
        counts.lost,
    )
    return f"| {row.fault} | " + " | ".join(map(str, (*figures, counts.wrong, f"{counts.longest_s:.2f}"))) + " |"


def details(row: Row) -> str:
    """Format the reasons for retries, and unexpected outcomes."""
    counts = row.counts
    reasons = {**counts.retried, **counts.reported, **row.notes}
    text = f"{row.fault}: " + (", ".join(f"{times} x {what}" for what, times in reasons.items()) or "no retries")
    faults = [f"{times} x {what}" for what, times in counts.unexpected.items()] + row.violations
    return text + (f"; UNEXPECTED: {', '.join(faults)}" if faults else "")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
