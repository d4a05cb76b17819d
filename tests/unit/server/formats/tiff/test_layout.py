"""Tests of the bounds on a TIFF's strips and tiles."""

import tracemalloc
import zlib

import numpy as np
import pytest
from tiffs import Page, tiff_of

from server.errors import UndecodableImage, UnsupportedImage
from server.formats import tiff
from server.formats.header import probe
from server.settings import LimitSettings

LIMITS = LimitSettings()


def tiled(width: int, height: int, across: int, down: int) -> bytes:
    """Build a grey image with an increasing first row, in deflated tiles."""
    columns, rows = -(-width // across), -(-height // down)
    body, offsets, sizes = b"", [], []
    for _ in range(rows):
        for column in range(columns):
            line = (np.arange(across) + column * across).astype(np.uint8)
            packed = zlib.compress(np.tile(line, (down, 1)).tobytes())
            offsets.append(8 + len(body))
            sizes.append(len(packed))
            body += packed
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: across, 323: down}
    data = tiff_of(Page(tags | {324: tuple(offsets), 325: tuple(sizes)}))
    shifted = Page(tags | {324: tuple(len(data) + at for at in offsets), 325: tuple(sizes)})
    whole = tiff_of(shifted)
    assert len(whole) <= len(data) + 8 * len(offsets)
    shifted = Page(tags | {324: tuple(len(whole) + at - 8 for at in offsets), 325: tuple(sizes)})
    assert len(tiff_of(shifted)) == len(whole)
    return tiff_of(shifted) + body


@pytest.mark.parametrize("tile", [(16, 16), (64, 32), (512, 512), (1024, 1024)])
def test_tiles_of_usual_sizes_are_read_even_if_the_image_is_small(tile: tuple[int, int]) -> None:
    data = tiled(40, 24, *tile)
    header = probe(data, LIMITS)
    np.testing.assert_array_equal(tiff.decode(data, header).colour[0], np.tile(np.arange(40), (24, 1)))


@pytest.mark.parametrize("tile", [(16_384, 16_384), (4096, 4096), (1040, 16), (16, 1040)])
def test_a_tile_much_larger_than_the_image_is_refused_before_it_is_decoded(tile: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedImage, match="1024"):
        probe(tiled(16, 16, *tile), LIMITS)


@pytest.mark.parametrize("tile", [(0, 16), (16, 0), (1, 1), (15, 16)])
def test_empty_and_tiny_tiles_are_refused(tile: tuple[int, int]) -> None:
    tags = {256: 32, 257: 32, 258: 8, 259: 1, 262: 1, 277: 1, 322: tile[0], 323: tile[1], 324: 8, 325: 1024}
    with pytest.raises(UndecodableImage, match="tiles"):
        probe(tiff_of(Page(tags, bytes(1024))), LIMITS)


def test_the_charged_pixels_are_the_decoded_pixels() -> None:
    assert probe(tiled(40, 24, 16, 16), LIMITS).decoded_pixels == 48 * 32
    assert probe(tiled(40, 24, 512, 512), LIMITS).decoded_pixels == 512 * 512


def strips(stated: int, rows: int = 4) -> bytes:
    """Build an image of 4 columns in one-row strips, with offsets of additional strips."""
    tags = {256: 4, 257: rows, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    return tiff_of(Page(tags | {273: (8,) * stated, 279: (4,) * stated}))


def test_entries_for_strips_beyond_the_image_are_ignored() -> None:
    data = strips(1_000_000) + bytes(64)
    tracemalloc.start()
    header = probe(data, LIMITS)
    assert tiff.decode(data, header).colour[0].shape == (4, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(data)


def test_a_missing_strip_is_reported_before_decoding() -> None:
    with pytest.raises(UndecodableImage, match="3 of 4"):
        probe(strips(3), LIMITS)


def test_overlapping_strips_do_not_expand_a_small_file_to_a_large_picture() -> None:
    with pytest.raises(UndecodableImage, match="overlap"):
        probe(
            tiff_of(Page({256: 64, 257: 99, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1, 273: (8,) * 99, 279: (64,) * 99})),
            LIMITS,
        )


def test_strips_and_tiles_in_one_file_are_refused_because_readers_differ() -> None:
    both = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16, 324: 8, 325: 256, 279: 256}
    with pytest.raises(UndecodableImage, match="both strips and tiles"):
        probe(tiff_of(Page(both, bytes(256))), LIMITS)


def test_more_channels_than_any_picture_has_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="100 channels"):
        probe(tiff_of(Page({256: 4, 257: 4, 258: 8, 259: 1, 262: 2, 277: 100, 279: 1600}, bytes(1600))), LIMITS)


def test_separate_planes_without_channels_are_refused() -> None:
    tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 0, 278: 2, 279: 16, 284: 2}
    with pytest.raises(UndecodableImage):
        probe(tiff_of(Page(tags, bytes(64))), LIMITS)
