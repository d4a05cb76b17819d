"""Tests of the images that a load sends."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from server.cli.bench.uploads import Body, Kind, Sequencer, kind_of_folder, kinds_of_sizes, make_kind
from server.errors import InvalidRequest


def _shape(body: Body) -> tuple[int, ...]:
    return tuple(cv2.imdecode(np.frombuffer(body.data, np.uint8), cv2.IMREAD_UNCHANGED).shape)


def test_sizes_may_name_a_height_a_format_and_a_weight() -> None:
    kinds = kinds_of_sizes("64, 40x24.jpeg:0.5,32:3", "webp", seed=0)
    assert [(kind.name, kind.weight) for kind in kinds] == [("64x64 webp", 1), ("40x24 jpeg", 0.5), ("32x32 webp", 3)]
    assert [kind.bodies[0].media_type for kind in kinds] == ["image/webp", "image/jpeg", "image/webp"]
    assert _shape(kinds[1].bodies[0]) == (24, 40, 3)


@pytest.mark.parametrize("sizes", ["", "64,", "64x", "0", "64:0", "64.gif", "-8", "64:x"])
def test_a_size_that_cannot_be_read_is_named(sizes: str) -> None:
    with pytest.raises(InvalidRequest):
        kinds_of_sizes(sizes, "png", seed=0)


def test_the_images_of_a_kind_differ_and_a_seed_repeats_them() -> None:
    kind = make_kind(16, 16, "png", seed=3)
    assert len(set(kind.bodies)) == len(kind.bodies) > 1
    assert make_kind(16, 16, "png", seed=3) == kind
    assert not set(make_kind(16, 16, "png", seed=4).bodies) & set(kind.bodies)


def test_an_image_compresses_as_a_photo_does_and_not_as_noise_or_a_plain_colour() -> None:
    size = len(make_kind(256, 256, "png").bodies[0].data)
    assert 0.3 < size / (256 * 256 * 3) < 0.9


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.JPG").write_bytes(b"jpeg bytes")
    (tmp_path / "a.png").write_bytes(b"png bytes")
    (tmp_path / "notes.txt").write_text("no image")
    assert kind_of_folder(tmp_path).bodies == (Body(b"png bytes", "image/png"), Body(b"jpeg bytes", "image/jpeg"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="contains no image"):
        kind_of_folder(tmp_path / "empty")


def test_kinds_are_drawn_by_weight_and_their_images_in_turns() -> None:
    rare, often = (Kind(name, (Body(b"1", name), Body(b"2", name)), weight) for name, weight in (("r", 1), ("o", 9)))
    sequencer = Sequencer([rare, often], np.random.default_rng(0))
    drawn = [sequencer.next() for _ in range(4000)]
    assert Counter(kind for kind, _ in drawn)[0] == pytest.approx(400, rel=0.15)
    assert [body.data[:1] for kind, body in drawn if kind == 0][:4] == [b"1", b"2", b"1", b"2"]
    assert len({body.data for _, body in drawn}) == len(drawn)  # so a server cannot answer two requests with one run
    assert all(body.media_type == ("r", "o")[kind] for kind, body in drawn)


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_a_numbered_upload_is_the_same_picture_and_a_jpeg_still_ends_with_it(image_format: str) -> None:
    kind = make_kind(16, 24, image_format)
    sequencer = Sequencer([kind], np.random.default_rng(0))
    for body in kind.bodies:
        _, sent = sequencer.next()
        assert sent.data != body.data
        assert sent.data.endswith(b"\xff\xd9") is (image_format == "jpeg")
        found, given = (cv2.imdecode(np.frombuffer(one.data, np.uint8), cv2.IMREAD_UNCHANGED) for one in (sent, body))
        np.testing.assert_array_equal(found, given)
