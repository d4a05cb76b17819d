"""Stage of a GPU window on the whole server: `promptir bench` against it, with one size and with several."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_backend import backend_device, weights_of
from gpu_results import Options, Results, size_name
from peers import ROOT, Peer, environment, free_port, wait_until_ready

BENCH_FILE = "bench.json"
CLIENTS = 32
SECONDS = 6.0


def server(options: Options, results: Results) -> None:
    """Measure the server on the first network: images of the second size, of all sizes in turn, and one at a time."""
    size = size_name(options.sizes[min(1, len(options.sizes) - 1)])
    every = ",".join(map(size_name, options.sizes))
    seconds, clients = (3.0, 2) if options.dry_run else (SECONDS, CLIENTS)
    reports: list[object] = []
    with tempfile.TemporaryDirectory() as folder, _serving(options, Path(folder)) as url:
        for sizes, count in ((size, clients), (every, clients), (size, 1)):
            if options.is_over:
                return
            report = Path(folder) / "report.json"
            load = ["--sizes", sizes, "--format", "jpeg", "--clients", str(count), "--seconds", str(seconds)]
            bench = [sys.executable, "-m", "server.cli", "bench", url, *load, "--json", str(report)]
            ended = subprocess.run(bench, cwd=ROOT, capture_output=True, text=True, check=False)
            row = {"network": options.variants[0], "sizes": sizes, "clients": count}
            if ended.returncode:
                results.add(**row, reason=ended.stderr.strip()[-200:])
                continue
            figures = json.loads(report.read_text())
            reports.append(figures)
            (options.folder / BENCH_FILE).write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
            latency = figures["latency_ms"]
            results.add(**row, images_per_s=figures["throughput_per_s"], p50_ms=latency["p50"], p99_ms=latency["p99"])


@contextmanager
def _serving(options: Options, folder: Path) -> Iterator[str]:
    """Start the server on the device with PyTorch in FP16."""
    port = free_port()
    settings = {
        "backend": "pytorch",
        "artifact": weights_of(options.variants[0], folder),
        "devices": backend_device(options),
        "torch_precision": "fp16",
    }
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=log, stderr=log)
    peer = Peer("server", f"http://127.0.0.1:{port}", process)
    try:
        try:
            wait_until_ready(peer)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; its log ends: {(folder / 'server.log').read_text()[-600:]}") from error
        yield peer.url
    finally:
        if process.poll() is None:
            peer.stop()
