"""Runs one stage of a GPU window in this process; gpu_window.py starts one process for each."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a GPU machine may have torch and no installed checkout

from gpu_backend import kernels, served, switches  # noqa: E402
from gpu_modules import compiled, fused, machine, modules  # noqa: E402
from gpu_results import Options, Results, parse_size  # noqa: E402
from gpu_server import server  # noqa: E402

from server.backends.torch_library import check_cuda, import_torch  # noqa: E402
from server.errors import BackendUnavailable  # noqa: E402

STAGES = {stage.__name__: stage for stage in (machine, modules, fused, served, kernels, switches, server, compiled)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--variant", nargs="+", required=True)
    parser.add_argument("--sizes", nargs="+", type=parse_size, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    if given.device.startswith("cuda"):
        try:
            check_cuda(import_torch(), 0)
        except BackendUnavailable as error:
            print(f"gpu-window: {error}; nothing was measured", file=sys.stderr)
            return 1
    options = Options(
        device=given.device,
        variants=tuple(given.variant),
        sizes=tuple(given.sizes),
        batch=given.batch,
        folder=given.output,
        seconds=given.seconds,
        dry_run=given.dry_run,
    )
    STAGES[given.stage](options, Results(given.output, given.stage))
    return 0


if __name__ == "__main__":
    sys.exit(main())
