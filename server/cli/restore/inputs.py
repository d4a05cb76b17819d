"""Plans which photo is restored to which file."""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from server import formats
from server.cli.restore.lists import path_of, sources_of
from server.errors import InvalidRequest
from server.formats.output import OutputFormat

INPUT_SUFFIXES = frozenset(suffix for known in formats.KNOWN for suffix in known.suffixes)
OUTPUT_BY_SUFFIX = {suffix: output for output in OutputFormat for suffix in output.file_format.suffixes}
SUFFIXES = " ".join(OUTPUT_BY_SUFFIX)

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_Found = tuple[str, str]
"""Source, and its relative path below OUT; plain text, since there may be millions."""


@dataclass(frozen=True, slots=True)
class Input:
    """One photo to restore, a path or URI, and the path of its result."""

    source: str
    destination: Path

    @property
    def output(self) -> OutputFormat:
        """Output format named by the result's suffix."""
        return OUTPUT_BY_SUFFIX[self.destination.suffix.lower()]


def is_uri(source: str) -> bool:
    """Return whether a source is a URI rather than a path."""
    return _URI.match(source) is not None


def plan(sources: Sequence[str], target: str, output: OutputFormat) -> list[Input]:
    """Plan the result path of each photo; folders and patterns keep their trees, and no two photos share a result.

    A single file is restored to the file OUT, or into OUT if that is a folder or ends in a slash. With several folders,
    each keeps its name below OUT. Raises InvalidRequest.
    """
    folder = Path(target)
    if len(sources) == 1 and Path(sources[0]).is_file():
        if target.endswith(os.sep) or folder.is_dir():
            return [Input(sources[0], folder / f"{Path(sources[0]).stem}{output.suffix}")]
        if folder.suffix.lower() not in OUTPUT_BY_SUFFIX:
            raise InvalidRequest(f"{target} names no output format: use the suffix {', '.join(OUTPUT_BY_SUFFIX)}")
        return [Input(sources[0], folder)]
    _check_folder(folder)
    several = len(sources) > 1
    found = [pair for source in sources for pair in _find(source, folder, several=several)]
    if folder.suffix.lower() in OUTPUT_BY_SUFFIX and not folder.is_dir():
        raise InvalidRequest(f"{target} is the name of an image: folders, patterns and several photos need a folder")
    return _apart(found, folder, output)


def plan_list(lines: Iterable[str], target: str, output: OutputFormat) -> list[Input]:
    """Plan the result paths for the lines of a list of paths and URIs; raises InvalidRequest.

    A result path depends only on its own line: `a/b.jpg` becomes OUT/a/b.jpg.png, `s3://bucket/b.png`
    OUT/bucket/b.png.
    """
    folder = Path(target)
    _check_folder(folder)
    inputs = []
    for entry in dict.fromkeys(sources_of(lines)):
        place = _place(entry)
        name = place.name if place.suffix.lower() == output.suffix else place.name + output.suffix
        inputs.append(Input(entry, folder / place.with_name(name)))
    if not inputs:
        raise InvalidRequest("the list contains no image")
    _check_apart(inputs)
    return inputs


def _check_folder(target: Path) -> None:
    if target.is_file():
        raise InvalidRequest(f"{target} is a file: several photos need a folder")


def _find(source: str, target: Path, *, several: bool) -> Iterator[_Found]:
    path = Path(source)
    if path.is_dir():
        keeps = path.resolve().name if several else ""
        found = [(file, os.path.join(keeps, place)) for file, place in _walk(path, target)]  # noqa: PTH118
        if not found:
            raise InvalidRequest(f"{source} contains no image ({', '.join(sorted(INPUT_SUFFIXES))})")
        yield from found
    elif path.is_file():
        yield source, path.name
    elif glob.has_magic(source):
        base = _fixed_part(path)
        inside = target.resolve()
        matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 - as shells do
        images = [match for match in matches if match.suffix.lower() in INPUT_SUFFIXES and match.is_file()]
        images = [image for image in images if not image.resolve().is_relative_to(inside)]
        if not images:
            raise InvalidRequest(f"{source} matches no image ({', '.join(sorted(INPUT_SUFFIXES))})")
        yield from ((str(image), str(image.relative_to(base))) for image in images)
    else:
        raise InvalidRequest(f"{source} {'is neither a file nor a folder' if path.exists() else 'does not exist'}")


def _walk(folder: Path, target: Path) -> Iterator[_Found]:
    """Yield the images below a folder in sorted order, except those inside `target`."""
    inside = target.resolve()
    if folder.resolve() == inside:
        raise InvalidRequest(f"{folder} is both IN and OUT: restored photos need a folder of their own")
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if (here / name).resolve() != inside)
        place = os.path.relpath(root, folder)
        for name in sorted(files):
            source = f"{root}{os.sep}{name}"
            if os.path.splitext(name)[1].lower() in INPUT_SUFFIXES and not _is_special(source):  # noqa: PTH122
                yield source, name if place == os.curdir else f"{place}{os.sep}{name}"


def _is_special(source: str) -> bool:
    """Return whether a source is a pipe, socket or device, which could block for ever; False for missing files."""
    try:
        return not stat.S_ISREG(os.stat(source).st_mode)  # noqa: PTH116 - plain text, since there may be millions
    except OSError:
        return False


def _fixed_part(pattern: Path) -> Path:
    """Return the folders of a pattern before its first wildcard."""
    parts = pattern.parts[:-1]
    magic = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:magic])


def _apart(found: Sequence[_Found], target: Path, output: OutputFormat) -> list[Input]:
    distinct = dict.fromkeys(found)
    stems = Counter(os.path.splitext(place)[0] for _, place in distinct)  # noqa: PTH122
    inputs = []
    for source, place in distinct:
        # photo.jpg and photo.png in one folder: the results keep the whole names, photo.jpg.png and photo.png.png.
        stem = os.path.splitext(place)[0]  # noqa: PTH122
        inputs.append(Input(source, target / ((stem if stems[stem] == 1 else place) + output.suffix)))
    _check_apart(inputs)
    return inputs


def _check_apart(inputs: Sequence[Input]) -> None:
    sources: dict[str, str] = {}
    for item in inputs:
        other = sources.setdefault(str(item.destination), item.source)
        if other is not item.source:
            raise InvalidRequest(
                f"{other} and {item.source} would both become {item.destination}: restore them separately"
            )


def _place(entry: str) -> PurePosixPath:
    if is_uri(entry):
        uri = urlsplit(entry)
        path = path_of(entry) if uri.scheme == "file" else unquote(uri.path)
        place = PurePosixPath(uri.netloc, path.lstrip("/"))
    else:
        place = PurePosixPath(Path(entry).as_posix())
        place = place.relative_to("/") if place.is_absolute() else place
    if ".." in place.parts or not place.name:
        raise InvalidRequest(f"{entry} in the list would leave OUT: list it without ..")
    return place
