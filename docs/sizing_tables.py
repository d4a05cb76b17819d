"""Generate the tables of docs/sizing.md from counted memory traffic. `make monitoring` runs it; nothing is measured."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from models.kernels.fusing import fused
from models.precision import to_mixed
from models.restoration import channels_last
from models.traffic import Traffic, traffic_of
from models.variants import build, variant

SIZING = Path(__file__).resolve().parents[1] / "docs/sizing.md"
BEGIN, END = "<!-- {name}: begin -->", "<!-- {name}: end -->"
NETWORKS = ("promptnaf", "promptir")
SIDE = 512
BANDWIDTHS = {
    "L4": 300,
    "A10": 600,
    "L40S": 864,
    "RTX 4090": 1008,
    "RTX 5090": 1792,
    "A100 80 GB SXM": 2039,
    "H100 SXM": 3350,
    "H200": 4800,
}
"""Published peak bandwidth in GB/s."""
PHOTOS = {0.25: (512, 512), 1: (1024, 1024), 2: (1224, 1632), 4: (2000, 2000)}
"""Megapixels -> height and width."""
GB = 1e9


@cache
def counted(name: str, height: int, width: int, *, kernels: bool) -> Traffic:
    """Count one image through the float16 network `name`, with or without fused kernels."""
    with torch.device("meta"):
        network = build(variant(name)).eval()
    network = channels_last(to_mixed(network, wide_copies=False))
    return traffic_of(fused(network) if kernels else network, height, width)


def forms() -> Iterator[tuple[str, bool]]:
    for name in NETWORKS:
        for kernels in (False, True):
            yield name, kernels


def traffic_rows() -> Iterator[str]:
    """Yield the table of bytes and operators of one image."""
    yield "| network, FP16 | memory traffic | operators |\n|---|---|---|"
    for name, kernels in forms():
        traffic = counted(name, SIDE, SIDE, kernels=kernels)
        kind = "fused kernels" if kernels else "PyTorch's own"
        yield f"| {name}, {kind} | {traffic.total_bytes / GB:.1f} GB | {traffic.operators} |"


def throughput_rows() -> Iterator[str]:
    """Yield the table of images a second that the memory bandwidth allows."""
    titles = [f"{name}, {'fused' if kernels else 'PyTorch'}" for name, kernels in forms()]
    yield f"| GPU | GB/s | {' | '.join(titles)} |\n|---|---|{'---|' * len(titles)}"
    for gpu, bandwidth in BANDWIDTHS.items():
        needs = [counted(name, SIDE, SIDE, kernels=kernels).total_bytes / GB for name, kernels in forms()]
        cells = [f"{bandwidth / need:.0f}" if bandwidth / need >= 10 else f"{bandwidth / need:.1f}" for need in needs]
        yield f"| {gpu} | {bandwidth} | {' | '.join(cells)} |"


def memory_rows() -> Iterator[str]:
    """Yield the table of the most memory that features take at once, for one photo without tiles."""
    titles = [f"{name}, {'fused' if kernels else 'PyTorch'}" for name, kernels in forms()]
    yield f"| photo | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}"
    for megapixels, (height, width) in PHOTOS.items():
        peaks = [counted(name, height, width, kernels=kernels).peak_bytes / GB for name, kernels in forms()]
        cells = " | ".join(f"{peak:.2f} GB" for peak in peaks)
        yield f"| {megapixels:g} megapixels ({width}x{height}) | {cells} |"


def rewritten(page: str) -> str:
    """Return the page with new tables between its markers."""
    for name, rows in (("traffic", traffic_rows), ("throughput", throughput_rows), ("memory", memory_rows)):
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, rest = page.split(begin)
        page = f"{before}{begin}\n" + "\n".join(rows()) + f"\n{end}{rest.split(end)[1]}"
    return page


if __name__ == "__main__":
    SIZING.write_text(rewritten(SIZING.read_text()))
