"""Draw the README's picture: a degraded photo above the answer of a running server.

Usage: start a server (`make serve`), then `make pictures`. The clean photo is tests/photos/pier.jpg, whose licence
is in the same folder.
"""

import sys
from pathlib import Path

import cv2
import httpx
import numpy as np

from models.photos import read_photo
from models.training.degradations import Image
from models.training.degradations.noise import noise
from models.training.degradations.weather import haze, rain

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests" / "photos" / "pier.jpg"
PICTURE = ROOT / "docs" / "images" / "before-after.jpg"
SERVER = "http://127.0.0.1:8000"
SEED = 4
GAP = 6
RESTORE_TIMEOUT_S = 120.0


def main() -> int:
    """Write the picture and print the PSNR of each column before and after."""
    clean = read_photo(PHOTO).astype(np.float32) / 255
    columns = []
    for name, degrade in (("noise", noise(50)), ("rain", rain), ("haze", haze)):
        degraded = degrade(clean, np.random.default_rng(SEED))
        restored = restore(degraded)
        print(f"{name}: {psnr(clean, degraded):.2f} dB before, {psnr(clean, restored):.2f} dB after")
        rule = np.ones((GAP, clean.shape[1], 3), np.float32)
        columns += [np.concatenate([degraded, rule, restored]), np.ones((2 * clean.shape[0] + GAP, GAP, 3), np.float32)]
    picture = np.concatenate(columns[:-1], axis=1)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(PICTURE), np.rint(picture[..., ::-1] * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return 0


def restore(image: Image) -> Image:
    """Restore `image` (H, W, 3), float32 from 0 to 1, on the server; sent and returned as PNG."""
    encoded = cv2.imencode(".png", np.rint(image[..., ::-1] * 255).astype(np.uint8))[1].tobytes()
    answer = httpx.post(
        f"{SERVER}/restore", content=encoded, headers={"Content-Type": "image/png"}, timeout=RESTORE_TIMEOUT_S
    )
    answer.raise_for_status()
    pixels = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(pixels, np.float32) / np.float32(255)


def psnr(clean: Image, image: Image) -> float:
    """Return the PSNR in dB of two float32 images from 0 to 1."""
    return float(-10 * np.log10(np.mean((clean - image) ** 2)))


if __name__ == "__main__":
    sys.exit(main())
