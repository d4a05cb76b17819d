"""Stages of a GPU window on the server's PyTorch backend: its overhead, new sizes, and the eviction of CUDA graphs."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_modules import network_of
from gpu_results import Options, Results, Size, size_name
from gpu_ways import half, seconds_of, with_fused_kernels
from safetensors.torch import save_file

from server.backends.base import ModelInput, Pixels
from server.backends.pytorch import TorchBackend, TorchSettings
from server.backends.torch_recordings import MOST_RECORDINGS, RUNS_BEFORE_RECORDING

RUNS_UNTIL_RECORDED = RUNS_BEFORE_RECORDING + 1
BATCHES = 40
NEW_SIZES = 8
ALTERNATIONS = 20
SMALL_BUDGET = 2**28
PROFILED_RUNS = 3
PROFILE_ROWS = 40
KERNELS_FILE = "kernels.txt"


def served(options: Options, results: Results) -> None:
    """Compare batches through pinned copies, two begun at a time, with the bare module on a batch on the device."""
    for name in options.variants:
        with _started(name, options) as backend:
            for size in options.sizes:
                for batch in sorted({1, options.batch}):
                    if options.is_over:
                        return
                    row = {"network": name, "size": size_name(size), "batch": batch}
                    results.add(**row, **_reasoned(lambda s=size, b=batch, k=backend: _overhead(k, s, b, options)))


def switches(options: Options, results: Results) -> None:
    """Time the first runs of new sizes, sizes that alternate, and more shapes than there is room for."""
    name = options.variants[0]
    with _started(name, options) as backend:
        results.add(network=name, what="new sizes", **_reasoned(lambda: _new_sizes(backend, options)))
        results.add(network=name, what="alternating sizes", **_reasoned(lambda: _alternating(backend, options)))
    with _started(name, options, device_cache_bytes=SMALL_BUDGET) as backend:
        results.add(network=name, what="evicted graphs", **_reasoned(lambda: _evictions(backend, options)))


def kernels(options: Options, results: Results) -> None:
    """Write a table of the kernels that take the most time, of each network, eager and fused."""
    device = torch.device(options.device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if options.on_cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    by = "self_device_time_total" if options.on_cuda else "self_cpu_time_total"
    size, runs = options.sizes[min(1, len(options.sizes) - 1)], 1 if options.dry_run else PROFILED_RUNS
    for name in options.variants:
        mixed = half(network_of(name, device))
        for way, build in (("eager", lambda network: network), ("fused", lambda n: with_fused_kernels(n, device))):
            row = {"network": name, "way": way, "size": size_name(size)}

            def profile(build: Callable[[Any], Any] = build, mixed: Any = mixed, row: Any = row) -> dict[str, object]:
                network, image = build(mixed), torch.rand(1, 3, *size, device=device)
                image = image.to(memory_format=torch.channels_last)
                with torch.inference_mode(), torch.profiler.profile(activities=activities) as profiler:
                    for _ in range(runs):
                        network(image)
                    if options.on_cuda:
                        torch.cuda.synchronize()
                table = profiler.key_averages().table(sort_by=by, row_limit=PROFILE_ROWS, max_name_column_width=80)
                with (options.folder / KERNELS_FILE).open("a", encoding="utf-8") as file:
                    file.write(f"{row}, {runs} runs\n{table}\n")
                return {"table": KERNELS_FILE}

            results.add(**row, **_reasoned(profile))


def _overhead(backend: TorchBackend, size: Size, batch: int, options: Options) -> dict[str, object]:
    pixels = _photo(batch, size)
    for _ in range(RUNS_UNTIL_RECORDED + 1):
        backend.run(ModelInput(pixels))
    count = 2 if options.dry_run else BATCHES
    began = time.perf_counter()
    pending = backend.begin(ModelInput(pixels))
    for _ in range(count - 1):
        behind = backend.begin(ModelInput(pixels))
        pending.result()
        pending = behind
    pending.result()
    served_s = (time.perf_counter() - began) / count
    network, image = backend._network_for(ModelInput(pixels)), torch.from_numpy(pixels).to(options.device)
    with torch.inference_mode():
        bare_s = seconds_of(lambda: network(image), image.device, briefly=options.dry_run)
    return {
        "served_ms_per_image": served_s * 1e3 / batch,
        "bare_ms_per_image": bare_s * 1e3 / batch,
        "served_by_bare": served_s / bare_s,
        "recorded": backend._recordings is not None and len(backend._recordings) > 0,
    }


def _new_sizes(backend: TorchBackend, options: Options) -> dict[str, object]:
    height, width = options.sizes[0]
    steps = range(1, 3 if options.dry_run else NEW_SIZES + 1)
    sizes = [(height + 8 * step, width + 16 * step) for step in steps]
    runs = [[_run_s(backend, _photo(1, size)) for _ in range(RUNS_UNTIL_RECORDED + 1)] for size in sizes]
    first, second, *_, recording, replayed = (statistics.median(times) * 1e3 for times in zip(*runs, strict=True))
    return {
        "sizes": len(sizes),
        "first_run_ms": first,
        "second_run_ms": second,
        "recording_run_ms": recording,
        "replayed_run_ms": replayed,
        "slowest_first_run_ms": max(times[0] for times in runs) * 1e3,
    }


def _alternating(backend: TorchBackend, options: Options) -> dict[str, object]:
    one, other = (_photo(1, size) for size in (options.sizes[0], options.sizes[-1]))
    for pixels in (one, other):
        for _ in range(RUNS_UNTIL_RECORDED + 1):
            _run_s(backend, pixels)
    count = 2 if options.dry_run else ALTERNATIONS
    apart = [statistics.median([_run_s(backend, pixels) for _ in range(count)]) for pixels in (one, other)]
    in_turn = [(_run_s(backend, one), _run_s(backend, other)) for _ in range(count)]
    return {
        "one_size_ms": sum(apart) * 1e3,
        "in_turn_ms": sum(statistics.median(times) for times in zip(*in_turn, strict=True)) * 1e3,
    }


def _evictions(backend: TorchBackend, options: Options) -> dict[str, object]:
    """Run more shapes than are kept, then the first one again, whose answer must not have changed."""
    shapes, side = (2, 16) if options.dry_run else (MOST_RECORDINGS + 4, 64)
    first = _photo(1, (side, side))
    expected = backend.run(ModelInput(first)).pixels
    before = _reserved(options)
    for number in range(shapes):
        for _ in range(RUNS_UNTIL_RECORDED + 1):
            backend.run(ModelInput(_photo(1, (side, side + 8 * number))))
    found = backend.run(ModelInput(first)).pixels
    recordings = backend._recordings
    return {
        "shapes": shapes,
        "recordings": 0 if recordings is None else len(recordings),
        "counted_mib": 0 if recordings is None else recordings.bytes / 2**20,
        "reserved_mib": (_reserved(options) - before) / 2**20,
        "largest_difference": float(np.abs(found - expected).max()),
    }


@contextmanager
def _started(name: str, options: Options, **settings: object) -> Iterator[TorchBackend]:
    with tempfile.TemporaryDirectory() as folder:
        weights = weights_of(name, Path(folder))
        known = {"backend": "pytorch", "artifact": weights, "devices": (backend_device(options),)}
        backend = TorchBackend(TorchSettings(**known, torch_precision="fp16", **settings), options.batch)
        backend.start()
        try:
            yield backend
        finally:
            backend.stop()


def weights_of(name: str, folder: Path) -> Path:
    """Write the weights of a network to a file that the server can load."""
    path = folder / f"{name}.safetensors"
    save_file(
        {key: value.contiguous() for key, value in network_of(name, torch.device("cpu")).state_dict().items()}, path
    )
    return path


def backend_device(options: Options) -> str:
    """Return the name of the device as the server's settings have it."""
    return "cpu" if not options.on_cuda else options.device if ":" in options.device else f"{options.device}:0"


def _reasoned(measure: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Measure, or say why it failed: one failure must not prevent the other measurements."""
    try:
        return measure()
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}


def _run_s(backend: TorchBackend, pixels: Pixels) -> float:
    began = time.perf_counter()
    backend.run(ModelInput(pixels))
    return time.perf_counter() - began


def _photo(batch: int, size: Size) -> Pixels:
    return np.random.default_rng(0).random((batch, 3, *size), np.float32)


def _reserved(options: Options) -> int:
    if not options.on_cuda:
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()
