"""Tests of results in logs and notebooks."""

import base64
import copy
import io
import pickle
from typing import Any

import numpy as np
import PIL.Image
import pytest

from promptir_client import Job, Report, Restored, Timings


def file_of(kind: str, side: int = 16, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def restored(data: bytes, media_type: str, **more: Any) -> Restored:
    return Restored(data, media_type, "whole", Timings(total_ms=3.0), **more)


def test_the_text_of_a_result_has_its_size_and_not_its_bytes() -> None:
    change = {"mean_abs": 0.1, "max_abs": 0.5, "psnr_db": 30.0}
    weights = [[0.25] * 5] * 300
    report = Report.of({"width": 9, "height": 8, "tiles": 1, "change": change, "prompt_weights": weights})
    text = repr(restored(b"\x00\xff" * 5000, "image/png", report=report, request_id="abc"))
    assert text.startswith("Restored(image/png, 10000 bytes, mode='whole'")
    assert "request_id='abc'" in text
    assert "psnr_db=30.0" in text
    assert len(text) < 500


def test_the_text_of_a_job_has_no_document() -> None:
    document = {"id": "7", "state": "done", "padding": "x" * 10_000}
    assert len(repr(Job("7", "done", 1, 1, None, None, document))) < 200


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_a_notebook_shows_the_file_itself_where_it_can(kind: str, media_type: str) -> None:
    data = file_of(kind)
    bundle = restored(data, media_type)._repr_mimebundle_()
    assert base64.b64decode(bundle[media_type]) == data
    assert "bytes" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("kind", "media_type"), [("TIFF", "image/tiff"), ("WEBP", "image/webp"), ("AVIF", "image/avif")]
)
def test_other_formats_are_shown_as_png(kind: str, media_type: str) -> None:
    bundle = restored(file_of(kind), media_type)._repr_mimebundle_()
    with PIL.Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as shown:
        assert (shown.format, shown.size) == ("PNG", (16, 16))


def test_a_large_file_is_shown_as_a_preview() -> None:
    bundle = restored(file_of("PNG", 1800), "image/png")._repr_mimebundle_()
    with PIL.Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as shown:
        assert max(shown.size) == 1600


def test_what_no_library_reads_is_shown_as_text() -> None:
    assert list(restored(b"broken", "image/tiff")._repr_mimebundle_()) == ["text/plain"]


def test_a_result_can_be_pickled_and_copied() -> None:
    one = restored(b"123", "image/png", request_id="7")
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one  # noqa: S301
