"""Perceptual hashes that keep evaluation pictures and their resized or recompressed copies out of training."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

EVALUATION_HASHES = Path(__file__).with_name("evaluation_hashes.tsv")
"""Name and hash of each picture that the default weights are evaluated on."""

SIDE = 32
KEPT_FREQUENCIES = 8
NEAR = 8
"""Hamming distance in 64 bits. In the tests, copies differ by at most 4 bits, unrelated photos by 32 on average."""


def perceptual_hash(photo: NDArray[np.uint8]) -> int:
    """Hash (H, W, 3) RGB to 64 bits, one for each low luminance frequency that exceeds their median."""
    grey = np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), np.float32)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small)[:KEPT_FREQUENCIES, :KEPT_FREQUENCIES].ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """Return the number of bits in which two hashes differ."""
    return (one ^ other).bit_count()


def read_hashes(path: Path = EVALUATION_HASHES) -> dict[str, int]:
    """Read a tab-separated table of names and hexadecimal hashes."""
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {name: int(digits, 16) for name, digits in lines}


def near_duplicate(found: int, hashes: Mapping[str, int]) -> str | None:
    """Return the name of a picture with a hash close to `found`, or None."""
    return next((name for name, other in hashes.items() if distance(found, other) <= NEAR), None)


def format_hashes(photos: Iterable[tuple[str, NDArray[np.uint8]]]) -> str:
    """Format the table that `read_hashes` reads."""
    return "".join(f"{name}\t{perceptual_hash(photo):016x}\n" for name, photo in photos)
