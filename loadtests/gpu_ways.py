"""Ways to run a network on a device, each built for one input and timed in the same way."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.precision import to_mixed
from models.restoration import RestorationNetwork, channels_last

Run = Callable[[], Tensor]
"""Runs the network once on the input it was built for."""
Build = Callable[[RestorationNetwork, Tensor], Run]

WARM_UP_RUNS = 3
TIMED_RUNS, LEAST_RUNS = 10, 3
LEAST_SECONDS, MOST_SECONDS = 0.05, 1.0


class UnavailableError(RuntimeError):
    """A way that is not available here; the message says what is missing."""


@dataclass(frozen=True)
class Way:
    """Name of a way, and a function that builds a run for one batch (N, 3, H, W) on the device."""

    name: str
    build: Build


def eager_ways() -> list[Way]:
    """Return the ways that start at once, the reference first."""
    return [
        Way("eager FP32", lambda network, image: lambda: network(image)),
        Way("eager FP16", eager_fp16),
        Way("FP16, CUDA graph", lambda network, image: recorded(eager_fp16, network, image)),
    ]


def fused_ways() -> list[Way]:
    """Return the ways with this project's own kernels, which Triton compiles once and keeps on disk."""
    return [
        Way("fused FP16", fused_fp16),
        Way("fused FP16, CUDA graph", lambda network, image: recorded(fused_fp16, network, image)),
    ]


def compiled_ways(compiler: str = "inductor") -> list[Way]:
    """Return the ways that compile for each shape first; `compiler` is the backend of torch.compile."""

    def compiled(network: RestorationNetwork, image: Tensor) -> Run:
        mixed, image = half(network), image.to(memory_format=torch.channels_last)
        # Or the ninth shape would run eagerly: the limit of recompilations counts those of all networks.
        torch._dynamo.reset()
        run = torch.compile(mixed, dynamic=False, backend=compiler)
        return lambda: run(image)

    return [
        Way("compiled FP16", compiled),
        Way("compiled FP16, CUDA graph", lambda network, image: recorded(compiled, network, image)),
    ]


def half(network: RestorationNetwork) -> RestorationNetwork:
    """Return the network in FP16 and channels last, as the server runs it."""
    return channels_last(to_mixed(network))


def eager_fp16(network: RestorationNetwork, image: Tensor) -> Run:
    mixed, image = half(network), image.to(memory_format=torch.channels_last)
    return lambda: mixed(image)


def fused_fp16(network: RestorationNetwork, image: Tensor) -> Run:
    """Run with the fused kernels of `models.kernels`, if this checkout and this device have them."""
    mixed = half(network)
    fused = with_fused_kernels(mixed, image.device)
    image = image.to(memory_format=torch.channels_last)
    return lambda: fused(image)


def with_fused_kernels(network: RestorationNetwork, device: torch.device) -> RestorationNetwork:
    """Return the network with fused kernels; raise UnavailableError with the reason why it has none."""
    try:
        from models.kernels import accelerate
    except ImportError as error:
        raise UnavailableError(f"no fused kernels: {error}") from error
    reasons = _Reasons()
    logger = logging.getLogger("models.kernels")
    logger.setLevel(logging.INFO)
    logger.addHandler(reasons)
    try:
        fused: RestorationNetwork = accelerate(network, device)
    finally:
        logger.removeHandler(reasons)
    if fused is network:
        raise UnavailableError(reasons.last or "the fused kernels do not apply")
    return fused


class _Reasons(logging.Handler):
    """Keeps the last message."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def recorded(build: Build, network: RestorationNetwork, image: Tensor) -> Run:
    """Record the run that `build` makes as a CUDA graph."""
    if image.device.type != "cuda":
        raise UnavailableError("CUDA graphs need a CUDA device")
    run = build(network, image)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture needs its warm-up on a separate stream
        for _ in range(WARM_UP_RUNS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def seconds_of(run: Callable[[], object], device: torch.device, *, briefly: bool = False) -> float:
    """Return the median seconds of a run after a warm-up, measured until the device has finished."""
    for _ in range(1 if briefly else WARM_UP_RUNS):
        run()
    synchronise(device)
    seconds: list[float] = []
    while not seconds or (not briefly and _needs_more(seconds)):
        began = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _needs_more(seconds: list[float]) -> bool:
    if sum(seconds) > MOST_SECONDS:
        return len(seconds) < LEAST_RUNS
    return len(seconds) < TIMED_RUNS or sum(seconds) < LEAST_SECONDS


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
