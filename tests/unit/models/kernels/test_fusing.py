"""Fused networks: same parameters, less traffic, and a plain network where the kernels cannot be trusted."""

import logging

import pytest

torch = pytest.importorskip("torch", reason="makes the networks with torch (extra `pytorch`)")
pytest.importorskip("triton", reason="the kernels are written in Triton (extra `fused`)")

from models.kernels import accelerate  # noqa: E402
from models.kernels.fusing import LOWEST_PSNR_DB, agreement, checked, fused  # noqa: E402
from models.kernels.modules import FusedNAFBlock, FusedTransformerBlock  # noqa: E402
from models.kernels.operators import GRAM_PROGRAMS, gram_splits  # noqa: E402
from models.precision import to_mixed  # noqa: E402
from models.restoration import RestorationNetwork, channels_last  # noqa: E402
from models.traffic import traffic_of  # noqa: E402
from models.variants import build, variant  # noqa: E402

CPU = torch.device("cpu")
GB = 1e9


def mixed(name: str, device: str = "cpu") -> RestorationNetwork:
    torch.manual_seed(0)
    with torch.device(device):
        network = build(variant(name)).eval()
    return channels_last(to_mixed(network, wide_copies=False))


@pytest.mark.parametrize(
    ("name", "kind"), [("promptir-tiny", FusedTransformerBlock), ("promptnaf-tiny", FusedNAFBlock)]
)
def test_a_fused_network_has_the_same_names_and_shares_the_parameters(name: str, kind: type) -> None:
    network = mixed(name)
    replaced = fused(network)
    assert list(replaced.state_dict()) == list(network.state_dict())
    assert any(isinstance(module, kind) for module in replaced.modules())
    assert not any(isinstance(module, kind) for module in network.modules())
    assert replaced.output.weight is network.output.weight


@pytest.mark.parametrize(("name", "gigabytes", "operators"), [("promptir", 22, 600), ("promptnaf", 1.5, 260)])
def test_a_fused_network_moves_little_memory(name: str, gigabytes: float, operators: int) -> None:
    traffic = traffic_of(fused(mixed(name, "meta")), 512, 512)
    assert traffic.total_bytes <= gigabytes * GB
    assert traffic.operators <= operators


@pytest.mark.parametrize(
    ("images", "pixels", "heads", "size"), [(1, 64, 1, 48), (1, 512 * 512, 1, 96), (64, 4096, 8, 48)]
)
def test_partial_sums_fill_a_gpu_and_no_more(images: int, pixels: int, heads: int, size: int) -> None:
    splits = gram_splits(images, pixels, heads, size)
    assert splits >= 1
    assert splits == 1 or splits * images * heads <= GRAM_PROGRAMS


def test_the_check_measures_the_difference_and_lets_no_nan_through() -> None:
    network, other = mixed("promptnaf-tiny"), mixed("promptnaf-tiny")
    assert agreement(network, other, CPU)[0] > 150
    other.output.weight.data += 0.5
    assert agreement(network, other, CPU)[0] < LOWEST_PSNR_DB
    other.output.weight.data[0, 0, 0, 0] = float("nan")
    psnr_db, _ = agreement(network, other, CPU)
    assert psnr_db != psnr_db


def test_a_device_that_cannot_run_the_kernels_keeps_pytorchs_own(caplog: pytest.LogCaptureFixture) -> None:
    network = mixed("promptnaf-tiny")
    assert checked(network, CPU) is network  # compiled kernels need a GPU
    assert "fused kernels cannot be used" in caplog.text


def test_a_cpu_and_a_float32_network_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    network = mixed("promptnaf-tiny")
    assert accelerate(network, CPU) is network
    assert "need an NVIDIA GPU" in caplog.text
    plain = build(variant("promptnaf-tiny"))
    assert accelerate(plain, torch.device("cuda")) is plain
    assert "for float16 networks" in caplog.text
