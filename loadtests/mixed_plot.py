"""The figure of docs/masked-batching.md, as SVG, from what loadtests/mixed_sizes.py measured on its clock."""

import argparse
import json
import sys
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "masked-batching.svg"
PANELS = (("photos", "50"), ("all equally often", "50"), ("289 sizes of 256 to 512", "50"))
COLOURS = {"buckets": "#c2571a", "padded_shapes": "#0f766e", "one at a time": "#6b7280"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 260, 200, 48, 46, 56
MOST = 320


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", default=ROOT / "runs" / "mixed.json")
    rows = json.loads(parser.parse_args().report.read_text())["rows"]
    rows = [row for row in rows if row["where"] == "clock"]
    panels = [_panel(rows, index, *panel) for index, panel in enumerate(PANELS)]
    width = LEFT + len(PANELS) * (WIDTH + GAP)
    legend = "".join(
        f'<rect x="{LEFT + 150 * index}" y="8" width="14" height="4" fill="{colour}"/>'
        f'<text x="{LEFT + 20 + 150 * index}" y="14">{mode}</text>'
        for index, (mode, colour) in enumerate(COLOURS.items())
    )
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 44}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>{legend}{"".join(panels)}</svg>\n'
    )
    return 0


def _panel(rows: list[dict[str, Any]], index: int, trace: str, deadline: str) -> str:
    left, bottom = LEFT + index * (WIDTH + GAP), TOP + HEIGHT
    parts = [f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{escape(trace)}: within {deadline} ms</text>']
    for value in range(0, MOST + 1, 80):
        x, y = left + value / MOST * WIDTH, bottom - value / MOST * HEIGHT
        parts += [
            f'<line x1="{left}" y1="{y}" x2="{left + WIDTH}" y2="{y}" stroke="#e5e7eb"/>',
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value}</text>',
            f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{value}</text>',
        ]
    parts.append(f'<text x="{left + WIDTH / 2}" y="{bottom + 32}" text-anchor="middle">offered, images a second</text>')
    for mode, colour in COLOURS.items():
        points = [
            (row["rate"], row["goodput"][deadline]) for row in rows if (row["trace"], row["mode"]) == (trace, mode)
        ]
        placed = [(left + rate / MOST * WIDTH, bottom - good / MOST * HEIGHT) for rate, good in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main())
