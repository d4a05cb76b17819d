"""The options of `promptir restore`, as its users give them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
Command = Callable[..., Any]
SIMULATED = {"backend": "simulated", "simulated_base_ms": 1}
EXIF_ARTIST = 315


@pytest.fixture
def photo(tmp_path: Path, png: Image) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png(90, 150))
    return path


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "tiff"])
def test_the_format_is_that_of_a_folders_files(photo: Path, tmp_path: Path, command: Command, name: str) -> None:
    (tmp_path / "in").mkdir()
    photo.rename(tmp_path / "in/photo.png")
    ended = command("restore", tmp_path / "in", tmp_path / "out", "--format", name, **SIMULATED)
    assert ended.returncode == 0, ended.stderr
    (written,) = (tmp_path / "out").iterdir()
    with PIL.Image.open(written) as image:
        assert (image.format, image.size) == (name.upper(), (150, 90))


def test_a_lower_quality_makes_a_smaller_file(photo: Path, tmp_path: Path, command: Command) -> None:
    sizes = []
    for quality in (20, 95):
        target = tmp_path / f"{quality}.jpg"
        assert command("restore", photo, target, "--quality", quality, **SIMULATED).returncode == 0
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("options", [(), ("--tile", 64), ("--tile", 64, "--overlap", 16), ("--strength", 0)])
def test_tiles_and_strength_leave_what_the_network_leaves(
    photo: Path, tmp_path: Path, samples: Samples, command: Command, options: tuple[object, ...]
) -> None:
    # The simulated network is the identity: seams, a shift or a wrong blend would show.
    ended = command("restore", photo, tmp_path / "out.png", *options, **SIMULATED)
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_array_equal(samples((tmp_path / "out.png").read_bytes()), samples(photo.read_bytes()))


def test_a_photo_in_tiles_runs_once_a_tile_and_once_for_their_guide(
    photo: Path, tmp_path: Path, command: Command
) -> None:
    def runs(*options: object, **guided: object) -> int:
        log = tmp_path / f"runs{len(options)}{len(guided)}.csv"
        settings = SIMULATED | {"simulated_run_log": log, "max_batch": 1} | guided
        assert command("restore", photo, tmp_path / "out.png", "--overwrite", *options, **settings).returncode == 0
        sizes = [int(line.split(",")[3]) for line in log.read_text().splitlines()[1:]]
        return sizes.count(96 * 152) if not options else sizes.count(64 * 64)

    tiles = ("--tile", 64, "--overlap", 0)
    whole, guided, alone = runs(), runs(*tiles), runs(*tiles, tone_guide="false")
    assert whole == 1
    assert alone >= 6  # of 90 x 150, and the warm-up may have one of that size
    assert guided == alone + 1


@pytest.mark.parametrize(("policy", "kept"), [("keep", "who took it"), ("strip", None)])
def test_metadata_is_kept_or_stripped(tmp_path: Path, command: Command, policy: str, kept: str | None) -> None:
    exif = PIL.Image.Exif()
    exif[EXIF_ARTIST] = "who took it"
    PIL.Image.new("RGB", (24, 16), (90, 120, 30)).save(tmp_path / "photo.jpg", exif=exif)
    target = tmp_path / "restored.jpg"
    assert command("restore", tmp_path / "photo.jpg", target, "--metadata", policy, **SIMULATED).returncode == 0
    with PIL.Image.open(target) as image:
        assert image.getexif().get(EXIF_ARTIST) == kept


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--strength", "1.5"), 1, "strength"),
        (("--strength", "nan"), 1, "strength"),
        (("--tile", "65"), 1, "tile must be a multiple"),
        (("--tile", "64", "--overlap", "40"), 1, "overlap must be from 0 to 16"),
        (("--quality", "0"), 2, "--quality"),
        (("--format", "gif"), 2, "--format"),
        (("--metadata", "some"), 2, "--metadata"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_and_writes_nothing(
    photo: Path, tmp_path: Path, command: Command, options: tuple[str, ...], code: int, words: str
) -> None:
    ended = command("restore", photo, tmp_path / "out.png", *options, **SIMULATED)
    assert ended.returncode == code
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out.png").exists()
