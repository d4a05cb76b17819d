"""Tests of the half-precision emulator: it finds overflows, and the exported form has none."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from export.emulator import HalfRounding, emulate
from export.verify import GATES
from models.restoration import RestorationNetwork
from models.variants import build, variant

SIDE = 512
"""The first power of two at which the squares of a channel sum beyond half's 65504."""


def picture(side: int) -> Tensor:
    """Generate a smooth scene with a little noise, (1, 3, side, side), because pixels of photos are correlated."""
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=noise)
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=noise)).clamp(0, 1)


def rounded(compute: nn.Module, x: Tensor, *, islands: bool) -> tuple[Tensor, HalfRounding]:
    with torch.no_grad(), HalfRounding(islands=islands) as rounding:
        return compute(x), rounding


class Total(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


def test_naive_half_overflows_at_512_and_the_exported_form_does_not() -> None:
    torch.manual_seed(0)
    network = build(variant("promptir-tiny")).eval()  # random weights overflow too, trained weights more
    naive, islands = emulate(network, picture(SIDE))

    assert GATES["mixed"].complaint(naive.comparison) is not None
    assert sum(naive.overflows.values()) > 0
    assert naive.comparison.non_finite == 0  # so checking the output alone is not enough

    assert GATES["mixed"].complaint(islands.comparison) is None
    assert islands.comparison.psnr_db > 60
    assert islands.overflows == {}


@pytest.mark.slow  # takes many minutes and gigabytes
@pytest.mark.parametrize("side", [512, 1024])
def test_the_papers_network_overflows_in_naive_half_and_not_as_exported(
    drawn_network: Callable[[str], RestorationNetwork], side: int
) -> None:
    naive, islands = emulate(drawn_network("promptir"), picture(side))
    assert GATES["mixed"].complaint(naive.comparison) is not None
    assert sum(naive.overflows.values()) > 0
    assert GATES["mixed"].complaint(islands.comparison) is None
    assert islands.overflows == {}


def test_both_forms_pass_where_nothing_is_large() -> None:
    torch.manual_seed(0)
    network = build(variant("promptir-tiny")).eval()
    for emulation in emulate(network, picture(64)):
        assert emulation.overflows == {}
        assert 60 < emulation.comparison.psnr_db < 120  # but it did round


def test_an_operator_on_half_is_computed_in_float32_and_stored_in_half() -> None:
    fits, rounding = rounded(Total(), torch.full((40_000,), 0.1).half(), islands=True)
    assert fits.dtype == torch.float16
    assert fits == 4000  # 3999.02, rounded once to a multiple of 2; a sum in half precision would stop growing at 256
    assert rounding.overflows == {}


def test_an_operator_whose_answer_exceeds_half_is_counted_by_name() -> None:
    overflowing, rounding = rounded(Total(), torch.full((40_000,), 2.0).half(), islands=True)
    assert overflowing == torch.inf
    assert rounding.overflows == {"sum": 1}


def test_an_island_is_left_in_float32_unless_the_form_is_naive() -> None:
    x = torch.full((40_000,), 2.0)
    assert rounded(Total(), x, islands=True)[0] == 80_000
    assert rounded(Total(), x, islands=False)[0] == torch.inf


def test_without_islands_the_squares_of_a_layer_norm_overflow() -> None:
    x = torch.tensor([[-300.0, 300.0]])
    norm = nn.LayerNorm(2)
    exact, calm = rounded(norm, x, islands=True)
    silent, rounding = rounded(norm, x, islands=False)
    torch.testing.assert_close(exact, torch.tensor([[-1.0, 1.0]]))
    assert calm.overflows == {}
    assert rounding.overflows["native_layer_norm"] > 0
    assert not silent.any()  # 300 over infinity


def test_without_overflow_a_layer_norm_by_steps_is_a_layer_norm() -> None:
    torch.manual_seed(0)
    norm, x = nn.LayerNorm(24), torch.randn(5, 24) * 3 + 1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        torch.testing.assert_close(rounded(norm, x, islands=False)[0], norm(x), atol=1e-2, rtol=0)
