"""Colour profiles: validation (ICC.1:2022) and conversion to sRGB."""

import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

GREY, RGB, CMYK = b"GRAY", b"RGB ", b"CMYK"

_SIZE, _SPACE, _SIGNATURE = slice(0, 4), slice(16, 20), slice(36, 40)  # section 7.2
_MIN_BYTES = 132
_PROBED_STEPS = 17
_MODES = {GREY: "L", RGB: "RGB", CMYK: "CMYK"}

Bytes8 = NDArray[np.uint8]


def fits(profile: bytes | None, space: bytes) -> bool:
    """Return whether the bytes are a complete profile for a colour space: GREY, RGB or CMYK."""
    return (
        profile is not None
        and len(profile) >= _MIN_BYTES
        and int.from_bytes(profile[_SIZE], "big") == len(profile)
        and profile[_SIGNATURE] == b"acsp"
        and profile[_SPACE] == space
    )


def cut(profile: bytes | None) -> bytes | None:
    """Remove the padding that some writers add after the declared size of a profile."""
    size = int.from_bytes(profile[_SIZE], "big") if profile else 0
    return profile[:size] if profile and size >= _MIN_BYTES else profile


def to_srgb(planes: tuple[Bytes8, ...], profile: bytes) -> tuple[Bytes8, ...] | None:
    """Convert grey or RGB planes to three sRGB planes; returns None if the profile is broken.

    Profiles equivalent to sRGB change nothing, whatever their name. The conversion is relative colorimetric with black
    point compensation, which preserves colours that both spaces contain.
    """
    image = PIL.Image.merge("RGB", [PIL.Image.fromarray(plane) for plane in planes]) if len(planes) == 3 else None
    return _converted(image or PIL.Image.fromarray(planes[0]), profile)


def cmyk_to_rgb(inks: PIL.Image.Image, profile: bytes | None) -> tuple[Bytes8, ...]:
    """Convert CMYK to three sRGB planes by its profile, or by complementing the inks if that is invalid."""
    profile = cut(profile)
    if profile is not None and fits(profile, CMYK) and (converted := _converted(inks, profile)):
        return converted
    return _planes(inks.convert("RGB"))


def _converted(image: PIL.Image.Image, profile: bytes) -> tuple[Bytes8, ...] | None:
    cms: Any
    from PIL import ImageCms as cms  # noqa: N813 - few uploads need this library

    try:
        source = cms.ImageCmsProfile(io.BytesIO(profile))
        intent, flags = cms.Intent.RELATIVE_COLORIMETRIC, cms.Flags.BLACKPOINTCOMPENSATION
        target = cms.createProfile("sRGB")
        transform = cms.buildTransform(source, target, image.mode, "RGB", intent, flags)
        if image.mode == "RGB" and _changes_nothing(cms, transform):
            return _planes(image)
        return _planes(cms.applyTransform(image, transform))
    except (cms.PyCMSError, OSError, ValueError):
        return None


def _changes_nothing(cms: Any, transform: Any) -> bool:
    # Rounding alone can change a sample by one. The name is unreliable: "Linear sRGB" is another space.
    steps = np.linspace(0, 255, _PROBED_STEPS).astype(np.uint8)
    probes = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(_PROBED_STEPS, -1, 3)
    converted = np.asarray(cms.applyTransform(PIL.Image.fromarray(probes), transform))
    return bool(np.abs(converted.astype(np.int16) - probes).max() <= 1)


def _planes(image: PIL.Image.Image) -> tuple[Bytes8, ...]:
    return tuple(np.asarray(band) for band in image.split())
