"""Tests of BMP, of the kinds that Pillow and OpenCV write and of one made by hand."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from server.imaging.containers import bmp

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize(("mode", "planes"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3)])
def test_every_kind_that_pillow_writes_is_read_as_it_reads_it(mode: str, planes: int) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).convert("RGB").convert(mode).save(file, "BMP")
    header = bmp.read_header(file.getvalue(), MOST)
    found = bmp.decode(file.getvalue(), header)
    assert (header.width, header.height, len(found.colour)) == (7, 5, planes)
    expected = np.asarray(PIL.Image.open(io.BytesIO(file.getvalue())).convert("L" if planes == 1 else "RGB"))
    np.testing.assert_array_equal(np.squeeze(np.dstack(found.colour)), expected)
    assert found.alpha is None


def test_alpha_that_the_header_promises_is_read() -> None:
    data = cv2.imencode(".bmp", NOISE)[1].tobytes()
    header = bmp.read_header(data, MOST)
    found = bmp.decode(data, header)
    assert header.has_alpha
    assert found.alpha is not None
    np.testing.assert_array_equal(np.dstack((*found.colour, found.alpha)), NOISE[:, :, [2, 1, 0, 3]])


def test_rows_from_the_top_down_are_not_turned_over() -> None:
    rows = bytes(range(24))  # two rows of four pixels, blue first
    data = b"BM" + struct.pack("<IHHI", 54 + 24, 0, 0, 54)
    data += struct.pack("<IiiHHIIiiII", 40, 4, -2, 1, 24, 0, 24, 0, 0, 0, 0) + rows
    found = bmp.decode(data, bmp.read_header(data, MOST))
    assert [plane[0, 0] for plane in found.colour] == [2, 1, 0]
