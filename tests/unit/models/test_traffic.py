"""Counted memory traffic: what the counter counts, and what the networks need of a GPU."""

import pytest
import torch
from torch import Tensor, nn

from models.precision import to_mixed
from models.restoration import channels_last
from models.traffic import Traffic, traffic_of
from models.variants import build, variant

GB = 1e9
SIDE = 512


def mixed_traffic(name: str, *, wide_copies: bool) -> Traffic:
    with torch.device("meta"):
        network = build(variant(name)).eval()
    return traffic_of(channels_last(to_mixed(network, wide_copies=wide_copies)), SIDE, SIDE)


class Doubling(nn.Module):
    """Doubles its input three times, keeping two of the results alive at most."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = (x + x).transpose(-1, -2)
        return x


def test_an_operator_reads_each_input_once_and_a_view_nothing() -> None:
    traffic = traffic_of(Doubling(), 8, 8)
    assert traffic.calls == {"add": 3}
    assert traffic.total_bytes == 3 * 2 * 3 * 8 * 8 * torch.float32.itemsize


def test_the_peak_is_what_is_alive_at_once_without_the_input() -> None:
    assert traffic_of(Doubling(), 8, 8).peak_bytes == 2 * 3 * 8 * 8 * torch.float32.itemsize


@pytest.mark.parametrize(
    ("name", "before", "after", "operators"), [("promptir", 86.6, 55, 1500), ("promptnaf", 5.15, 3.6, 580)]
)
def test_half_precision_without_float32_copies_moves_less(
    name: str, before: float, after: float, operators: int
) -> None:
    copying, direct = mixed_traffic(name, wide_copies=True), mixed_traffic(name, wide_copies=False)
    assert copying.total_bytes == pytest.approx(before * GB, rel=0.02)
    assert direct.total_bytes <= after * GB
    assert direct.operators <= operators < copying.operators
    assert direct.peak_bytes <= copying.peak_bytes
    assert direct.bytes_moved["_to_copy"] < copying.bytes_moved["_to_copy"] / 20  # images, means and weights
