"""The command `promptir-export verify`: parity of an artifact, as a table and as JSON."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # --help and usage errors must not wait for torch
    from export.comparison import Comparison
    from export.samples import Sample
    from export.verify import Candidate, Gate
    from models.artifact import Manifest
    from models.promptir import PromptIR

COLUMNS = "{run:<18} {input:<22} {shape:<14} {error:>11} {psnr:>9} {non_finite:>11}  {result}"


def add_verify_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `verify` and its options."""
    command = commands.add_parser("verify", help="compare an artifact with float32 PyTorch and hold it to its gate")
    command.add_argument("artifact", type=Path, metavar="ARTIFACT", help="folder with the model and manifest.json")
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help="what the artifact was made from")
    command.add_argument("--photos", type=Path, metavar="FOLDER", help="photos to run beside noise, cut to 512x512")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    command.add_argument(
        "--emulate",
        type=int,
        nargs="+",
        default=(),
        metavar="SIDE",
        help="also run the network on SIDE x SIDE pixels with every operator rounded through half: without float32 "
        "islands, for comparison, and with them, which must pass the mixed gate and overflow nowhere",
    )
    command.set_defaults(run=_verify)


@dataclass(frozen=True)
class Row:
    """One run of the report."""

    run: str
    input: str
    shape: tuple[int, ...]
    comparison: "Comparison"
    complaint: str | None
    """Why it fails its gate; None if it passes or has none."""
    overflows: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        found, overflows = self.comparison, sum(self.overflows.values())
        result = "FAILS" if self.complaint else "ok"
        return COLUMNS.format(
            run=self.run,
            input=self.input[:22],
            shape="x".join(map(str, self.shape)),
            error=f"{found.max_abs_error:.2e}",
            psnr=f"{found.psnr_db:.1f} dB",
            non_finite=found.non_finite,
            result=f"{result}, {overflows} operators overflow" if overflows else result,
        )

    def record(self) -> dict[str, Any]:
        """The fields for JSON, which has no NaN and no infinity: null instead."""
        fields = asdict(self)
        for name, value in fields.pop("comparison").items():
            fields[name] = value if math.isfinite(value) else None
        return fields


def _verify(options: argparse.Namespace) -> None:
    from export.verify import GATES, ParityError, open_artifact
    from models.checkpoint import load_network
    from models.promptir import PromptIRConfig

    manifest, candidate = open_artifact(options.artifact)
    network = load_network(options.weights, PromptIRConfig.named(manifest.variant))
    print(f"{manifest.name}: {manifest.variant}, {manifest.precision}, {manifest.model_file} against float32 PyTorch")
    header = {"run": "run", "input": "input", "shape": "shape", "error": "max abs", "psnr": "PSNR"}
    print(COLUMNS.format(**header, non_finite="non-finite", result="gate"))
    rows = []
    for row in chain(
        _measured(network, candidate, options.photos, GATES[manifest.precision], manifest.model_file),
        _emulated(network, options.emulate, options.photos, GATES["mixed"]),
    ):
        print(row.line(), flush=True)
        rows.append(row)
    if options.json:
        report = _report(manifest, GATES[manifest.precision], rows)
        options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if failed := [row for row in rows if row.complaint]:
        first = failed[0]
        raise ParityError(f"{len(failed)} of {len(rows)} runs fail: on {first.input}, {first.run} {first.complaint}")


def _measured(
    network: "PromptIR", candidate: "Candidate", photos: Path | None, gate: "Gate", model_file: str
) -> Iterator[Row]:
    from export.samples import noise_samples, photo_samples
    from export.verify import measure

    samples = chain(noise_samples(), photo_samples(photos) if photos else ())
    for measured in measure(network, candidate, samples):
        found = measured.comparison
        yield Row(model_file, measured.sample, measured.shape, found, gate.complaint(found))


def _emulated(network: "PromptIR", sides: Sequence[int], photos: Path | None, gate: "Gate") -> Iterator[Row]:
    import torch

    from export.emulator import emulate

    for side in sides:
        sample = _square(side, photos)
        for emulation in emulate(network, torch.from_numpy(sample.pixels)):
            found, overflows = emulation.comparison, emulation.overflows
            complaint = None
            if emulation.form == "islands":
                complaint = "overflows half" if overflows else gate.complaint(found)
            yield Row(f"emulated {emulation.form}", sample.name, sample.pixels.shape, found, complaint, overflows)


def _square(side: int, photos: Path | None) -> "Sample":
    from export.samples import noise_samples, square_photo
    from models.promptir import IMAGE_CHANNELS, SIZE_MULTIPLE
    from models.training.dataset import photo_paths

    if side < SIZE_MULTIPLE or side % SIZE_MULTIPLE:
        raise ValueError(f"the emulator takes sides that are multiples of {SIZE_MULTIPLE}, not {side}")
    if photos:
        return square_photo(photo_paths(photos)[0], side)
    return next(noise_samples(((1, IMAGE_CHANNELS, side, side),)))


def _report(manifest: "Manifest", gate: "Gate", rows: list[Row]) -> dict[str, Any]:
    return {
        "artifact": manifest.name,
        "variant": manifest.variant,
        "precision": manifest.precision,
        "sha256": manifest.sha256,
        "gate": {name: value for name, value in vars(gate).items() if math.isfinite(value)},
        "passed": not any(row.complaint for row in rows),
        "rows": [row.record() for row in rows],
    }
