"""Fixtures that encode images."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest

from server.formats import codec

Encode = Callable[..., bytes]


@pytest.fixture(scope="session", autouse=True)
def _quiet_codec() -> None:
    codec.silence_decoder_messages()


@pytest.fixture
def samples() -> np.ndarray:
    """Return (24, 40, 3) uint8 samples in flat blocks, which lossy formats keep closely."""
    blocks = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def encode(samples: np.ndarray) -> Encode:
    """Encode the samples with Pillow as `kind`, first converted to `mode`."""

    def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
        image = PIL.Image.fromarray(samples).convert("RGBA")
        image.putalpha(PIL.Image.fromarray(samples[:, :, 1]))
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **options)
        return file.getvalue()

    return encoded
