"""Runtimes of the network on a device, each built for one input and timed in the same way."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.precision import to_mixed
from models.restoration import RestorationNetwork, channels_last

Run = Callable[[], Tensor]
"""Runs the model once on the input it was built for."""

WARM_UP_RUNS = 3
TIMED_RUNS = 10
LEAST_SECONDS = 0.05


class UnavailableError(RuntimeError):
    """The runtime is not available here; the message says what is missing."""


@dataclass(frozen=True)
class Way:
    """Name of a runtime, and a function that builds a run for one batch (N, 3, H, W) on the device."""

    name: str
    build: Callable[[RestorationNetwork, Tensor], Run]
    half: bool = True


def all_ways(folder: Path) -> list[Way]:
    """Yield every runtime, the reference first; `folder` receives traced models."""
    return [
        Way("eager FP32", lambda network, image: lambda: network(image), half=False),
        Way("eager TF32", eager_tf32, half=False),
        Way("eager FP16", eager_fp16),
        Way("FP16, channels last", channels_last_fp16),
        Way("FP16, channels last, CUDA graph", lambda network, image: recorded(channels_last_fp16, network, image)),
        Way("FP16, torch.compile", compiled_fp16),
        Way("FP16, torch.compile, CUDA graph", lambda network, image: recorded(compiled_fp16, network, image)),
        Way("ONNX Runtime CUDA, mixed", onnx_runtime("CUDAExecutionProvider", folder)),
        Way("ONNX Runtime TensorRT, mixed", onnx_runtime("TensorrtExecutionProvider", folder)),
    ]


def eager_tf32(network: RestorationNetwork, image: Tensor) -> Run:
    def run() -> Tensor:
        with tensor_float_32():
            return network(image)

    return run


def eager_fp16(network: RestorationNetwork, image: Tensor) -> Run:
    mixed = to_mixed(network)
    return lambda: mixed(image)


def channels_last_fp16(network: RestorationNetwork, image: Tensor) -> Run:
    mixed, image = channels_last(to_mixed(network)), image.to(memory_format=torch.channels_last)
    return lambda: mixed(image)


def compiled_fp16(network: RestorationNetwork, image: Tensor) -> Run:
    mixed, image = channels_last(to_mixed(network)), image.to(memory_format=torch.channels_last)
    compiled = torch.compile(mixed, dynamic=False)
    return lambda: compiled(image)


def recorded(build: Callable[[RestorationNetwork, Tensor], Run], network: RestorationNetwork, image: Tensor) -> Run:
    """Record the run that `build` makes as a CUDA graph."""
    if image.device.type != "cuda":
        raise UnavailableError("CUDA graphs need a CUDA device")
    run = build(network, image)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # graph capture needs its warm-up on a separate stream
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


def onnx_runtime(provider: str, folder: Path) -> Callable[[RestorationNetwork, Tensor], Run]:
    """Run with ONNX Runtime on `provider`, with input and output bound on the device."""

    def build(network: RestorationNetwork, image: Tensor) -> Run:
        try:
            import onnxruntime

            from export.to_onnx import DEFAULT_OPSET, trace
        except ImportError as error:
            raise UnavailableError(f"{error.name} is not installed") from error
        if provider not in onnxruntime.get_available_providers():
            raise UnavailableError(f"this onnxruntime has no {provider}")
        model = folder / "mixed.onnx"
        if not model.exists():
            trace(to_mixed(network).cpu(), model, DEFAULT_OPSET)
        session = onnxruntime.InferenceSession(model, providers=[provider])
        if provider not in session.get_providers():
            raise UnavailableError(f"onnxruntime fell back from {provider}")
        binding = session.io_binding()
        source = onnxruntime.OrtValue.ortvalue_from_numpy(image.cpu().numpy(), "cuda", 0)
        binding.bind_ortvalue_input(session.get_inputs()[0].name, source)
        target = torch.empty_like(image)
        binding.bind_output(session.get_outputs()[0].name, "cuda", 0, "float32", tuple(target.shape), target.data_ptr())

        def run() -> Tensor:
            session.run_with_iobinding(binding)
            return target

        return run

    return build


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Let FP32 products round their inputs to ten fraction bits inside the block."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of a run after a warm-up, measured until the device has finished."""
    for _ in range(WARM_UP_RUNS):
        run()
    synchronise(device)
    seconds: list[float] = []
    while len(seconds) < TIMED_RUNS or sum(seconds) < LEAST_SECONDS:
        began = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
