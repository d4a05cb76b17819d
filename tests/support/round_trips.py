"""Round trips of image files through the codec and back into Pillow, without restoration."""

import io

import numpy as np
import PIL.Image

from server.formats import codec
from server.formats.codec import Image, OutputFormat
from server.formats.header import probe
from server.settings import LimitSettings

LIMITS = LimitSettings()
QUALITY = 95


def decode(data: bytes) -> Image:
    return codec.decode(data, probe(data, LIMITS))


def round_trip(data: bytes, output: OutputFormat = OutputFormat.PNG) -> PIL.Image.Image:
    image = decode(data)
    restored = PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, output, QUALITY)))
    restored.load()
    return restored


def as_rgba(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA")).astype(int)


def saved(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    """Encode the image as `kind` with Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
