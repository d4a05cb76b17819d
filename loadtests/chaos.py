"""Chaos test: injects faults into a server under load and checks every response; see docs/reliability.md.

Run `python loadtests/chaos.py [FAULT ...] [--seconds 30] [--json FILE]`; exits with 1 if any response was wrong, lost
or not explained by the fault.
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
    """Inject the faults one by one, each into its own server, and print the results as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"any of {', '.join(FAULTS)} (default: all)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help="duration of each fault (default: 30)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    rows = []
    print("| fault | times | requests | restored | sent again | jobs accepted | done | told why not | lost | wrong "
          "| longest s |\n|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in arguments.faults or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            row = await FAULTS[name](Path(folder), arguments.seconds)
            if not row.sound:
                complain(Path(folder) / "server.log")
        rows.append((name, row))
        print(line(row), flush=True)
    print()
    for _, row in rows:
        print(details(row))
    if arguments.json is not None:
        figures = {name: vars(row) | {"tally": vars(row.tally), "sound": row.sound} for name, row in rows}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(not all(row.sound for _, row in rows))


def complain(log: Path) -> None:
    """Print the end of the server's log."""
    lines = [line[:1000] for line in log.read_text().splitlines() if '"level": "INFO"' not in line]
    print("\n".join(lines[-SHOWN_LINES:]), file=sys.stderr)


def line(row: Row) -> str:
    """Format a row of the table."""
    tally = row.tally
    again, told = tally.again.total(), tally.told.total()
    figures = (row.faults, tally.requests, tally.restored, again, tally.accepted, tally.done, told, tally.lost)
    return f"| {row.fault} | " + " | ".join(map(str, (*figures, tally.wrong, f"{tally.longest_s:.2f}"))) + " |"


def details(row: Row) -> str:
    """Describe why requests were retried, and which outcomes are violations."""
    tally = row.tally
    said = {**tally.again, **tally.told, **row.notes}
    text = f"{row.fault}: " + (", ".join(f"{times} x {what}" for what, times in said.items()) or "nothing sent again")
    faults = [f"{times} x {what}" for what, times in tally.unexpected.items()] + row.violations
    return text + (f"; NOT EXPLAINED: {', '.join(faults)}" if faults else "")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
