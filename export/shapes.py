"""Input shapes (N, 3, H, W) used for tracing and verification."""

from collections.abc import Sequence

from models.plan_manifest import Extent, ShapeProfile
from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE

Shape = tuple[int, int, int, int]
Size = tuple[int, int]
"""Height and width."""

TRACE_SHAPE: Shape = (2, IMAGE_CHANNELS, 6 * SIZE_MULTIPLE, 8 * SIZE_MULTIPLE)
"""Neither square nor batch 1, so that verification detects axes that the tracer made constant."""

VERIFICATION_SHAPES: tuple[Shape, ...] = (
    (1, IMAGE_CHANNELS, SIZE_MULTIPLE, SIZE_MULTIPLE),  # the smallest possible: one pixel in the latent
    (1, IMAGE_CHANNELS, 64, 64),
    (3, IMAGE_CHANNELS, 40, 72),
    (2, IMAGE_CHANNELS, 96, 64),
    (1, IMAGE_CHANNELS, 72, 200),
)
"""Single images and batches, square, tall and wide; none equals the traced shape."""

VERIFICATION_MIXES: tuple[tuple[Size, tuple[Size, ...]], ...] = (
    ((SIZE_MULTIPLE, SIZE_MULTIPLE), ((SIZE_MULTIPLE, SIZE_MULTIPLE),)),  # no padding
    ((64, 64), ((64, 64), (40, 64), (SIZE_MULTIPLE, SIZE_MULTIPLE))),
    ((96, 72), ((24, 72), (96, 16))),
    ((72, 200), ((64, 200),)),
)
"""Padded (height, width), and the sizes of the images in the batch, for verifying masked models."""


def shapes_within(profiles: Sequence[ShapeProfile]) -> tuple[Shape, ...]:
    """Return the verification shapes that a profile accepts, and each profile's smallest and optimal shape."""
    held = [shape for shape in VERIFICATION_SHAPES if any(profile.holds(extent_of(shape)) for profile in profiles)]
    extents = [extent for profile in profiles for extent in (profile.min, profile.opt)]
    return tuple(dict.fromkeys([*held, *((n, IMAGE_CHANNELS, h, w) for n, h, w in extents)]))


def extent_of(shape: tuple[int, ...]) -> Extent:
    """Return batch, height and width of (N, 3, H, W)."""
    count, _, height, width = shape
    return count, height, width
