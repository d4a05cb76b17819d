"""`promptir restore`: files restored in this process, without a server."""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from tqdm import tqdm

from server.app import create_restorer
from server.cli.settings_flags import add_settings, settings_from
from server.errors import InvalidRequest, PromptIRServeError
from server.imaging import codec
from server.imaging.output import MetadataPolicy, OutputFormat
from server.imaging.strength import check_strength
from server.metrics import Metrics
from server.restoration import RestoreOptions
from server.restorer import Restorer

DEFAULT_QUALITY = 95
# One image is decoded or encoded while another one runs; more would only hold memory.
IN_FLIGHT = 3
# All images have ended by then; only after Ctrl-C may a run still be going on.
RELEASE_TIMEOUT_S = 5.0

_INPUT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"})
_OUTPUT_BY_SUFFIX = {
    ".png": OutputFormat.PNG,
    ".jpg": OutputFormat.JPEG,
    ".jpeg": OutputFormat.JPEG,
    ".webp": OutputFormat.WEBP,
    ".avif": OutputFormat.AVIF,
    ".tif": OutputFormat.TIFF,
    ".tiff": OutputFormat.TIFF,
}
SUFFIXES = " ".join(_OUTPUT_BY_SUFFIX)


@dataclass(frozen=True)
class Errand:
    """One file to restore and where the result goes."""

    source: Path
    target: Path

    @property
    def output(self) -> OutputFormat:
        """The kind of file that the target's suffix names."""
        return _OUTPUT_BY_SUFFIX[self.target.suffix.lower()]


def add_command(commands: Any) -> None:
    """Add `restore` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("restore", help="restore a file or a folder of files")
    parser.add_argument("source", type=Path, metavar="IN", help="an image, or a folder that is searched for images")
    parser.add_argument("target", type=Path, metavar="OUT", help=f"the restored image ({SUFFIXES}), or a folder")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--quality", type=int, default=DEFAULT_QUALITY, choices=range(1, 101), metavar="1..100")
    parser.add_argument(
        "--format",
        type=OutputFormat,
        default=OutputFormat.PNG,
        choices=list(OutputFormat),
        help="of the files in an OUT folder; an OUT file's suffix names its own",
    )
    parser.add_argument(
        "--metadata",
        type=MetadataPolicy,
        default=MetadataPolicy.KEEP,
        choices=list(MetadataPolicy),
        help="EXIF and XMP",
    )
    parser.add_argument("--strength", type=float, default=1.0, metavar="0..1", help="share of the restored photo")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="longest side of a tile; large photos are cut")
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help="what neighbouring tiles share at least")
    add_settings(parser, {"backend", "limits"})
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore everything; 1 if any file failed. Raises InvalidRequest if there is nothing sensible to do."""
    settings = settings_from(arguments)
    errands = plan(arguments.source, arguments.target, arguments.format)
    options = RestoreOptions(
        quality=arguments.quality,
        metadata=arguments.metadata,
        strength=check_strength(arguments.strength),
        tile=arguments.tile,
        overlap=arguments.overlap,
    )
    codec.quieten()
    restorer = create_restorer(settings, Metrics(CollectorRegistry()))
    failures = asyncio.run(_restore_all(restorer, errands, options, arguments.overwrite))
    if failures:
        print(f"promptir: {len(failures)} of {len(errands)} images failed:", file=sys.stderr)
        for errand, reason in failures:
            print(f"  {errand.source}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def plan(source: Path, target: Path, output: OutputFormat) -> list[Errand]:
    """Which file goes where; a folder keeps its tree, and no two files share a target."""
    if source.is_dir():
        if target.is_file():
            raise InvalidRequest(f"{target} is a file: a folder is restored into a folder")
        return _plan_folder(source, target, output)
    if not source.is_file():
        raise InvalidRequest(f"{source} does not exist")
    if target.is_dir():
        target = target / f"{source.stem}{output.suffix}"
    if target.suffix.lower() not in _OUTPUT_BY_SUFFIX:
        raise InvalidRequest(f"{target} names no output format: end it in {', '.join(_OUTPUT_BY_SUFFIX)}")
    return [Errand(source, target)]


def _plan_folder(source: Path, target: Path, output: OutputFormat) -> list[Errand]:
    inside = target.resolve()
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in _INPUT_SUFFIXES and path.is_file() and not path.resolve().is_relative_to(inside)
    )
    if not found:
        raise InvalidRequest(f"{source} holds no image ({', '.join(sorted(_INPUT_SUFFIXES))})")
    stems = Counter(path.with_suffix("") for path in found)
    errands = []
    for path in found:
        # photo.jpg beside photo.png: their results keep the whole name, photo.jpg.png and photo.png.png.
        name = path.stem if stems[path.with_suffix("")] == 1 else path.name
        errands.append(Errand(path, target / path.relative_to(source).with_name(name + output.suffix)))
    return errands


async def _restore_all(
    restorer: Restorer, errands: Sequence[Errand], options: RestoreOptions, overwrite: bool
) -> list[tuple[Errand, str]]:
    failures: list[tuple[Errand, str]] = []
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def run_errand(errand: Errand) -> None:
        async with slots:
            try:
                await _restore_one(restorer, errand, options, overwrite)
            except (PromptIRServeError, OSError) as error:
                failures.append((errand, str(error)))
        progress.update()

    try:
        await restorer.start()
        # Hidden where there is no terminal: a log wants the summary, not the bar.
        with tqdm(total=len(errands), unit="image", disable=None) as progress:
            async with asyncio.TaskGroup() as group:
                for errand in errands:
                    group.create_task(run_errand(errand))
    finally:
        await restorer.stop(RELEASE_TIMEOUT_S)
    return sorted(failures, key=lambda failure: failure[0].source)


async def _restore_one(restorer: Restorer, errand: Errand, options: RestoreOptions, overwrite: bool) -> None:
    if not overwrite and errand.target.exists():
        raise InvalidRequest(f"{errand.target} exists; --overwrite replaces it")
    data = await asyncio.to_thread(errand.source.read_bytes)
    restored = await restorer.restore(data, replace(options, output=errand.output))
    await asyncio.to_thread(_write_atomically, errand.target, restored.data)


def _write_atomically(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
