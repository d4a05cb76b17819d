"""Command `promptir-export verify`: measure the parity of artifacts, as a table and as JSON."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # --help and usage errors must not load torch
    from export.comparison import Comparison
    from export.samples import Sample
    from export.verify import Gate, Model
    from models.artifact import Manifest
    from models.restoration import RestorationNetwork

COLUMNS = "{run:<18} {input:<22} {shape:<14} {error:>11} {psnr:>9} {non_finite:>11} {prompts:>8}  {result}"


def add_verify_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand `verify` and its options."""
    command = commands.add_parser(
        "verify", help="compare artifacts with float32 PyTorch and check each against its gate"
    )
    command.add_argument(
        "artifacts",
        type=Path,
        nargs="+",
        metavar="ARTIFACT",
        help="folder with manifest.json and an ONNX file or a plan; several must be of the same network variant",
    )
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help="weights they were exported from")
    command.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="photos to use besides noise, cropped to 512x512"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    command.add_argument(
        "--emulate",
        type=int,
        nargs="+",
        default=(),
        metavar="SIDE",
        help="also emulate half precision on SIDE x SIDE pixels, with every operator rounded: without float32 islands, "
        "for comparison, and with them, which must pass the mixed gate without overflow",
    )
    command.set_defaults(run=_verify)


@dataclass(frozen=True)
class Row:
    """Row of the report."""

    run: str
    input: str
    shape: tuple[int, ...]
    comparison: "Comparison"
    complaint: str | None
    """Reason why the run fails its gate; None if it passes or has no gate."""
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
            prompts="" if found.prompt_weights_error is None else f"{found.prompt_weights_error:.1e}",
            result=f"{result}, {overflows} operators overflow" if overflows else result,
        )

    def record(self) -> dict[str, Any]:
        """Return the fields for JSON, with null for NaN and infinity, which JSON lacks."""
        fields = asdict(self)
        for name, value in fields.pop("comparison").items():
            fields[name] = value if value is not None and math.isfinite(value) else None
        return fields


@dataclass(frozen=True)
class Subject:
    """Artifact in the report."""

    manifest: "Manifest"
    model: "Model"
    gate: "Gate"

    def record(self) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "run": self.model.name,
            "artifact": manifest.name,
            "precision": manifest.precision,
            "sha256": manifest.sha256,
            "gate": {name: value for name, value in vars(self.gate).items() if math.isfinite(value)},
        }


def _verify(options: argparse.Namespace) -> None:
    from export.verify import GATES, ParityError
    from models.checkpoint import load_network
    from models.variants import variant as named_variant

    subjects = _opened(options.artifacts)
    variant = subjects[0].manifest.variant
    network = load_network(options.weights, named_variant(variant))
    for subject in subjects:
        print(f"{subject.manifest.name}: {variant}, {subject.model.name} against float32 PyTorch")
    header = {
        "run": "run",
        "input": "input",
        "shape": "shape",
        "error": "max abs",
        "psnr": "PSNR",
        "prompts": "prompts",
    }
    print(COLUMNS.format(**header, non_finite="non-finite", result="gate"))
    rows = []
    for row in chain(
        _measured(network, subjects, options.photos),
        _emulated(network, options.emulate, options.photos, GATES["mixed"]),
    ):
        print(row.line(), flush=True)
        rows.append(row)
    if options.json:
        report = _report(variant, subjects, rows)
        options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if failed := [row for row in rows if row.complaint]:
        first = failed[0]
        raise ParityError(f"{len(failed)} of {len(rows)} runs fail: on {first.input}, {first.run} {first.complaint}")


def _opened(folders: Sequence[Path]) -> list[Subject]:
    from export.verify import GATES, open_artifact

    subjects = [Subject(manifest, model, GATES[manifest.precision]) for manifest, model in map(open_artifact, folders)]
    variants = sorted({subject.manifest.variant for subject in subjects})
    if len(variants) > 1:
        raise ValueError(f"artifacts of {' and '.join(variants)} cannot share a table; verify each by itself")
    return subjects


def _measured(network: "RestorationNetwork", subjects: Sequence[Subject], photos: Path | None) -> Iterator[Row]:
    from export.samples import noise_samples, photo_samples
    from export.shapes import VERIFICATION_SHAPES, shapes_within
    from export.verify import measure, measure_mixes

    gates = {subject.model: subject.gate for subject in subjects}
    profiles = [profile for model in gates for profile in model.profiles]
    shapes = shapes_within(profiles)
    if not all(model.profiles for model in gates):
        shapes = tuple(dict.fromkeys((*VERIFICATION_SHAPES, *shapes)))
    samples = chain(noise_samples(shapes), photo_samples(photos) if photos else ())
    for measured in chain(measure(network, list(gates), samples), measure_mixes(network, list(gates))):
        found, model = measured.comparison, measured.model
        yield Row(model.name, measured.sample, measured.shape, found, gates[model].complaint(found))


def _emulated(network: "RestorationNetwork", sides: Sequence[int], photos: Path | None, gate: "Gate") -> Iterator[Row]:
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
    from models.photos import photo_paths
    from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE

    if side < SIZE_MULTIPLE or side % SIZE_MULTIPLE:
        raise ValueError(f"the emulator takes sides that are multiples of {SIZE_MULTIPLE}, not {side}")
    if photos:
        return square_photo(photo_paths(photos)[0], side)
    return next(noise_samples(((1, IMAGE_CHANNELS, side, side),)))


def _report(variant: str, subjects: Sequence[Subject], rows: list[Row]) -> dict[str, Any]:
    return {
        "variant": variant,
        "artifacts": [subject.record() for subject in subjects],
        "passed": not any(row.complaint for row in rows),
        "rows": [row.record() for row in rows],
    }
