"""Images that a load sends, generated or read before it starts."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from server import formats
from server.errors import InvalidRequest
from server.formats.jpeg.markers import COM, START, segment_bytes

FORMATS = ("png", "jpeg", "webp")
# Number of different images per size, to defeat caches; large images are slow to generate.
VARIANTS = 4
LARGE_PIXELS = 1_000_000

_MEDIA_TYPES = {suffix: known.media_type for known in formats.KNOWN for suffix in known.suffixes}
_SIZE = re.compile(r"(\d+)(?:x(\d+))?(?:\.(png|jpeg|webp))?(?::(\d+(?:\.\d+)?))?")
_QUALITY_FLAG = {"jpeg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}
_SCENE_CELLS = 9
_NOISE_LEVELS = 6.0
_QUALITY = 90


@dataclass(frozen=True)
class Body:
    """One encoded image and its media type."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class Kind:
    """Images reported as one row; `weight` is their share of the requests relative to other kinds."""

    name: str
    bodies: tuple[Body, ...]
    weight: float = 1.0


def kinds_of_sizes(sizes: str, default_format: str, seed: int) -> list[Kind]:
    """Generate the kinds of `SIDE|WIDTHxHEIGHT[.FORMAT][:WEIGHT],...`; raises InvalidRequest for invalid syntax."""
    kinds = []
    for part in sizes.split(","):
        match = _SIZE.fullmatch(part.strip())
        if match is None:
            raise InvalidRequest(
                f"{part.strip()!r} is not a size: write 64 or 640x480, optionally with .png, .jpeg or .webp and :WEIGHT"
            )
        width, height = int(match[1]), int(match[2] or match[1])
        weight = float(match[4] or 1)
        if not (width and height and weight):
            raise InvalidRequest(f"{part.strip()!r}: side and weight must be above 0")
        kinds.append(make_kind(width, height, match[3] or default_format, weight, seed))
    return kinds


def make_kind(width: int, height: int, image_format: str, weight: float = 1.0, seed: int = 0) -> Kind:
    """Generate photo-like images of one size; `image_format` is one of FORMATS."""
    count = 1 if width * height > LARGE_PIXELS else VARIANTS
    suffix = f".{image_format}"
    options = [] if image_format == "png" else [_QUALITY_FLAG[image_format], _QUALITY]
    bodies = []
    for variant in range(count):
        written, data = cv2.imencode(suffix, _photo_like(width, height, seed * VARIANTS + variant), options)
        if not written:
            raise InvalidRequest(f"an image of {width} x {height} pixels cannot be written as {image_format}")
        bodies.append(Body(bytes(data), f"image/{image_format}"))
    return Kind(f"{width}x{height} {image_format}", tuple(bodies), weight)


def kind_of_folder(folder: Path) -> Kind:
    """Read all images below a folder, sorted by path; raises InvalidRequest if there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _MEDIA_TYPES and path.is_file())
    if not paths:
        raise InvalidRequest(f"{folder} contains no image ({', '.join(_MEDIA_TYPES)})")
    bodies = tuple(Body(path.read_bytes(), _MEDIA_TYPES[path.suffix.lower()]) for path in paths)
    return Kind(f"{len(bodies)} files of {folder.name or folder}", bodies)


class Sequencer:
    """Chooses the next image: kinds at random by weight, images of a kind in turn.

    No two uploads have equal bytes.
    """

    def __init__(self, kinds: Sequence[Kind], rng: np.random.Generator) -> None:
        self.kinds = tuple(kinds)
        weights = np.array([kind.weight for kind in kinds])
        self._bounds = np.cumsum(weights / weights.sum())
        self._rng = rng
        self._sent = [0] * len(kinds)
        salt = int(rng.integers(2**63))
        self._numbers = (b"%016x%08x" % (salt, count) for count in itertools.count())

    def next(self) -> tuple[int, Body]:
        """Return the index of the next kind and the image to send."""
        drawn = int(np.searchsorted(self._bounds, self._rng.random(), side="right"))
        kind = min(drawn, len(self.kinds) - 1)  # the bounds may end a rounding error below one
        bodies = self.kinds[kind].bodies
        body = bodies[self._sent[kind] % len(bodies)]
        self._sent[kind] += 1
        return kind, _numbered(body, next(self._numbers))


def _numbered(body: Body, number: bytes) -> Body:
    """Make an upload unique, since equal ones could share a run: by a comment in a JPEG, else after the image's end.

    Bytes after a JPEG would be searched for a video, which other photos are not.
    """
    if not body.data.startswith(START):
        return Body(body.data + number, body.media_type)
    return Body(START + segment_bytes(COM, number) + body.data[len(START) :], body.media_type)


def _photo_like(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Generate a smooth scene with a little noise, (H, W, 3), which compresses like a photo."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (_SCENE_CELLS, _SCENE_CELLS, 3), dtype=np.uint8)
    scene = np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC))
    noise = rng.standard_normal(scene.shape, np.float32) * _NOISE_LEVELS
    samples: NDArray[np.uint8] = np.clip(scene + noise, 0, 255).astype(np.uint8)
    return samples
