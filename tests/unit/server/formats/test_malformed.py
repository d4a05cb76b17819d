"""Tests with malformed files: each is read or refused with a reason, within bounds of time and memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
GENERATOR = ROOT / "tests" / "corpus" / "malformed.py"
MAX_MEGABYTES = 50
REPEATS = 20

# Runs in a separate process, so that its memory can be measured. Some files are read before the measurement begins.
READ_ALL = """
import json, pathlib, resource, sys
from server.errors import InvalidImage
from server.formats import codec
from server.formats.header import probe
from server.settings import LimitSettings

def megabytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def read(data):
    try:
        header = probe(data, LimitSettings())
        image = codec.decode(data, header)
        assert image.crop().shape == (3, header.height, header.width)
        for output in codec.OutputFormat:
            codec.encode(image, image.planes, output, 80)
    except InvalidImage as error:
        return type(error).__name__
    return "read"

codec.silence_decoder_messages()
files = sorted(pathlib.Path(sys.argv[1]).iterdir())
for file in files:
    if file.name.startswith(("png-called", "larger-than")):
        read(file.read_bytes())
outcomes, costs = {}, {}
for file in files:
    data = file.read_bytes()
    before = peak()
    outcomes[file.name] = read(data)
    costs[file.name] = peak() - before
settled = megabytes()
for _ in range(int(sys.argv[2])):
    for file in files:
        if file.stat().st_size < 100_000 and not file.name.startswith("larger-than"):
            read(file.read_bytes())
print(json.dumps({"outcomes": outcomes, "costs": costs, "growth": megabytes() - settled}))
"""


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("malformed")
    subprocess.run([sys.executable, GENERATOR, folder], check=True, cwd=ROOT)
    command = [sys.executable, "-c", READ_ALL, folder, str(REPEATS)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return json.loads(done.stdout)


def test_every_file_is_read_or_refused_with_a_reason(figures: dict[str, Any]) -> None:
    outcomes = figures["outcomes"]
    assert len(outcomes) >= 150
    kinds = {"read", "EmptyUpload", "UnsupportedImage", "UndecodableImage", "ImageTooLarge"}
    assert set(outcomes.values()) == kinds


def test_every_file_that_is_cut_is_refused(figures: dict[str, Any]) -> None:
    cut = {name: outcome for name, outcome in figures["outcomes"].items() if name.startswith("cut-at-")}
    assert len(cut) > 40
    assert "read" not in cut.values(), cut


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("bomb-40000x40000.png", "ImageTooLarge"),
        ("bomb-in-profile.png", "ImageTooLarge"),
        ("bomb-in-xmp.png", "ImageTooLarge"),
        ("bomb-in-text.png", "read"),
        ("bomb-in-pixels.png", "read"),
        ("sides-of-4-billion.tiff", "ImageTooLarge"),
        ("one-by-65535.png", "ImageTooLarge"),
        ("one-by-65535.jpeg", "ImageTooLarge"),
        ("one-by-65535.tiff", "ImageTooLarge"),
        ("ten-thousand-scans.jpeg", "UnsupportedImage"),
        ("three-thousand-scans-behind-tem.jpeg", "UnsupportedImage"),
        ("three-thousand-scans-behind-restart.jpeg", "UnsupportedImage"),
        ("three-thousand-scans-behind-fill.jpeg", "UnsupportedImage"),
        ("thirty-scans-of-49-megapixels.jpeg", "UnsupportedImage"),
        ("another-size-behind-tem.jpeg", "read"),
        ("no-end-marker.jpeg", "read"),
        ("no-end-marker-and-a-trailer.jpeg", "read"),
        ("ends-with-another-picture.jpeg", "read"),
        ("hundred-thousand-items.avif", "UndecodableImage"),
        ("forty-thousand-places.avif", "UndecodableImage"),
        ("exif-header-behind.avif", "read"),
        ("no-brands-but-heif.avif", "read"),
        ("million-chunks.png", "ImageTooLarge"),
        ("wrong-pixel-crc.png", "UndecodableImage"),
        ("width-twice.tiff", "UndecodableImage"),
        ("sixteen-bits-too-short.tiff", "UndecodableImage"),
        ("tile-of-16384-in-16.tiff", "UnsupportedImage"),
        ("tile-of-4096-in-16.tiff", "UnsupportedImage"),
        ("strips-beyond-the-image.tiff", "read"),
        ("strips-that-overlap.tiff", "UndecodableImage"),
        ("strips-and-tiles.tiff", "UndecodableImage"),
        ("digital-negative.tiff", "UnsupportedImage"),
        ("filter-array.tiff", "UnsupportedImage"),
        ("copy-of-nothing.tiff", "UndecodableImage"),
        ("below-itself.tiff", "read"),
        ("values-overlap.tiff", "read"),
        ("no-masks.bmp", "UnsupportedImage"),
        ("masks-with-holes.bmp", "UnsupportedImage"),
        ("masks-that-overlap.bmp", "UnsupportedImage"),
        ("masks-beyond-the-word.bmp", "UnsupportedImage"),
        ("words-cut-off.bmp", "UndecodableImage"),
        ("exif-that-points-to-itself.png", "read"),
        ("exif-that-points-outside.png", "read"),
        ("profile-that-holds-itself.png", "read"),
        ("zero-frames-of-apng.png", "read"),
        ("png-called.jpg", "read"),
    ],
)
def test_each_kind_of_attack_has_its_expected_outcome(name: str, outcome: str, figures: dict[str, Any]) -> None:
    assert figures["outcomes"][name] == outcome


def test_no_file_takes_more_memory_than_a_small_image_may(figures: dict[str, Any]) -> None:
    dear = {name: cost for name, cost in figures["costs"].items() if cost > MAX_MEGABYTES}
    assert not dear


def test_reading_them_again_and_again_takes_no_more_memory(figures: dict[str, Any]) -> None:
    assert figures["growth"] < 10
