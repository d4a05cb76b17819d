"""Errands: which photo is restored into which file."""

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
"""A source, and where it goes below OUT under its own name; text, for there may be millions."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One photo to restore, a path or a URI, and where the result goes."""

    source: str
    target: Path

    @property
    def output(self) -> OutputFormat:
        """The kind of file that the target's suffix names."""
        return OUTPUT_BY_SUFFIX[self.target.suffix.lower()]


def is_uri(source: str) -> bool:
    """Whether a source is more than a path."""
    return _URI.match(source) is not None


def plan(sources: Sequence[str], target: str, output: OutputFormat) -> list[Errand]:
    """Which photo goes where; folders and patterns keep their trees, and no two photos share a target.

    One file goes into the file OUT, or into the folder that is there or ends in a slash. Of several folders each keeps
    its name. Raises InvalidRequest.
    """
    folder = Path(target)
    if len(sources) == 1 and Path(sources[0]).is_file():
        if target.endswith(os.sep) or folder.is_dir():
            return [Errand(sources[0], folder / f"{Path(sources[0]).stem}{output.suffix}")]
        if folder.suffix.lower() not in OUTPUT_BY_SUFFIX:
            raise InvalidRequest(f"{target} names no output format: end it in {', '.join(OUTPUT_BY_SUFFIX)}")
        return [Errand(sources[0], folder)]
    _check_folder(folder)
    several = len(sources) > 1
    found = [pair for source in sources for pair in _find(source, folder, several=several)]
    return _apart(found, folder, output)


def plan_list(lines: Iterable[str], target: str, output: OutputFormat) -> list[Errand]:
    """The same of the lines of a list of paths and URIs.

    Each goes where its own line says, whatever else is listed: `a/b.jpg` to OUT/a/b.jpg.png, `s3://bucket/b.png` to
    OUT/bucket/b.png.
    """
    folder = Path(target)
    _check_folder(folder)
    errands = []
    for entry in dict.fromkeys(sources_of(lines)):
        place = _place(entry)
        name = place.name if place.suffix.lower() == output.suffix else place.name + output.suffix
        errands.append(Errand(entry, folder / place.with_name(name)))
    if not errands:
        raise InvalidRequest("the list names no image")
    _check_apart(errands)
    return errands


def _check_folder(target: Path) -> None:
    if target.is_file():
        raise InvalidRequest(f"{target} is a file: several photos are restored into a folder")


def _find(source: str, target: Path, *, several: bool) -> Iterator[_Found]:
    path = Path(source)
    if path.is_dir():
        keeps = path.resolve().name if several else ""
        found = [(file, os.path.join(keeps, place)) for file, place in _walk(path, target)]  # noqa: PTH118
        if not found:
            raise InvalidRequest(f"{source} holds no image ({', '.join(sorted(INPUT_SUFFIXES))})")
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
    """The images below a folder, in order, without those that are results."""
    inside = target.resolve()
    if folder.resolve() == inside:
        raise InvalidRequest(f"{folder} is IN and OUT at once: restored photos go into a folder of their own")
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if (here / name).resolve() != inside)
        place = os.path.relpath(root, folder)
        for name in sorted(files):
            source = f"{root}{os.sep}{name}"
            if os.path.splitext(name)[1].lower() in INPUT_SUFFIXES and not _is_special(source):  # noqa: PTH122
                yield source, name if place == os.curdir else f"{place}{os.sep}{name}"


def _is_special(source: str) -> bool:
    """Whether it is a pipe, a socket or a device, which to read may never end. What is gone is not: that is said."""
    try:
        return not stat.S_ISREG(os.stat(source).st_mode)  # noqa: PTH116 - text, for there may be millions
    except OSError:
        return False


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before its first wildcard."""
    parts = pattern.parts[:-1]
    magic = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:magic])


def _apart(found: Sequence[_Found], target: Path, output: OutputFormat) -> list[Errand]:
    distinct = dict.fromkeys(found)
    stems = Counter(os.path.splitext(place)[0] for _, place in distinct)  # noqa: PTH122
    errands = []
    for source, place in distinct:
        # photo.jpg beside photo.png: their results keep the whole name, photo.jpg.png and photo.png.png.
        stem = os.path.splitext(place)[0]  # noqa: PTH122
        errands.append(Errand(source, target / ((stem if stems[stem] == 1 else place) + output.suffix)))
    _check_apart(errands)
    return errands


def _check_apart(errands: Sequence[Errand]) -> None:
    sources: dict[str, str] = {}
    for errand in errands:
        other = sources.setdefault(str(errand.target), errand.source)
        if other is not errand.source:
            raise InvalidRequest(f"{other} and {errand.source} would both become {errand.target}: restore them apart")


def _place(entry: str) -> PurePosixPath:
    if is_uri(entry):
        uri = urlsplit(entry)
        path = path_of(entry) if uri.scheme == "file" else unquote(uri.path)
        place = PurePosixPath(uri.netloc, path.lstrip("/"))
    else:
        place = PurePosixPath(Path(entry).as_posix())
        place = place.relative_to("/") if place.is_absolute() else place
    if ".." in place.parts or not place.name:
        raise InvalidRequest(f"{entry} in the list has no place below OUT: list it without ..")
    return place
