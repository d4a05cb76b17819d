"""The fused kernels, compiled for NVIDIA GPUs without one: registers, spills and shared memory."""

from collections.abc import Callable, Iterator

import pytest

torch = pytest.importorskip("torch", reason="makes the networks with torch (extra `pytorch`)")
pytest.importorskip("triton", reason="compiles Triton kernels (extra `fused`)")

from kernel_builds import Launch, build, recorded_launches  # noqa: E402

from models.kernels.modules import FusedNAFBlock, FusedTransformerBlock  # noqa: E402
from models.layers import TransformerBlock  # noqa: E402
from models.naf import NAFBlock  # noqa: E402
from models.validity import Validity  # noqa: E402

SHARED_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Compute capability -> shared memory of a block: CUDA C++ Programming Guide, technical specifications."""
REGISTERS_OF_A_BLOCK = 65536
THREADS_OF_A_WARP = 32
MOST_SPILLED_BYTES = 32
"""Of a thread. ptxas spills a register or two to keep a kernel at 128, which lets two blocks run at once."""


def launches_of(block: Callable[..., object], channels: int, *, masked: bool) -> list[Launch]:
    x = torch.zeros(2, channels, 8, 8).half().contiguous(memory_format=torch.channels_last)
    sizes = torch.tensor([8, 4]), torch.tensor([8, 6])
    valid = Validity.within(torch.empty(2, 3, 8, 8), *sizes, torch.float16) if masked else None
    with recorded_launches() as launches, torch.inference_mode():
        block(x, valid)
    return launches


def transformer(channels: int, heads: int) -> FusedTransformerBlock:
    block = TransformerBlock(channels, heads, 2.66).half()
    block.ffn.pad_hidden(16)
    block.attn.temperature.data = block.attn.temperature.data.float()
    return FusedTransformerBlock(block)


def of_the_papers_first_level() -> list[Launch]:
    return launches_of(transformer(48, 1), 48, masked=False)


def of_the_default_networks_first_level() -> list[Launch]:
    return launches_of(FusedNAFBlock(NAFBlock(16).half()), 16, masked=True)


def of_every_width() -> Iterator[Launch]:
    for channels, heads in ((48, 1), (96, 1), (192, 4), (384, 8), (704, 4)):
        for masked in (False, True):
            yield from launches_of(transformer(channels, heads), channels, masked=masked)
    for channels in (16, 64, 128, 192):
        for masked in (False, True):
            yield from launches_of(FusedNAFBlock(NAFBlock(channels).half()), channels, masked=masked)


def assert_fits(launch: Launch, capability: int) -> str:
    """Check one build against the limits of its GPUs, and return its code."""
    built = build(launch, capability)
    threads = dict(launch.options)["num_warps"] * THREADS_OF_A_WARP
    what = f"{launch.name} on sm_{capability}"
    assert built.spilled_bytes <= MOST_SPILLED_BYTES, f"{what} spills {built.spilled_bytes} bytes of a thread"
    assert built.registers * threads <= REGISTERS_OF_A_BLOCK, f"{what} takes {built.registers} registers"
    assert built.shared_bytes <= SHARED_BYTES[capability], f"{what} takes {built.shared_bytes} bytes of shared memory"
    return built.ptx


def test_the_kernels_of_both_bodies_fit_a_hopper_gpu() -> None:
    code = {launch.name: assert_fits(launch, 90) for launch in of_the_papers_first_level()}
    code |= {launch.name: assert_fits(launch, 90) for launch in of_the_default_networks_first_level()}
    for name, ptx in code.items():
        if name.startswith(("norm_project", "project_add", "gate_project_add", "channel_gram", "gated_feed_forward")):
            assert "mma" in ptx, f"{name} does not multiply on tensor cores"
        if name.startswith(("gate", "norm_project", "channel_gram")) and name != "gate-0-1-1-32-16":
            assert "ld.global.v4" in ptx, f"{name} loads less than 16 bytes at a time"


@pytest.mark.slow
@pytest.mark.parametrize("capability", SHARED_BYTES)
def test_every_launch_fits_every_gpu(capability: int) -> None:
    for launch in dict.fromkeys(of_every_width()):
        assert_fits(launch, capability)
