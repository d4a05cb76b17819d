"""The input shapes (N, 3, H, W) that an export is traced and verified with."""

from collections.abc import Sequence

from models.plan_manifest import Extent, ShapeProfile
from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE

Shape = tuple[int, int, int, int]
Size = tuple[int, int]
"""Height and width."""

TRACE_SHAPE: Shape = (2, IMAGE_CHANNELS, 6 * SIZE_MULTIPLE, 8 * SIZE_MULTIPLE)
"""Not square and not batch 1, so that an axis the tracer took for a constant shows up in verification."""

VERIFICATION_SHAPES: tuple[Shape, ...] = (
    (1, IMAGE_CHANNELS, SIZE_MULTIPLE, SIZE_MULTIPLE),  # the smallest there is: one pixel in the latent
    (1, IMAGE_CHANNELS, 64, 64),
    (3, IMAGE_CHANNELS, 40, 72),
    (2, IMAGE_CHANNELS, 96, 64),
    (1, IMAGE_CHANNELS, 72, 200),
)
"""None is the traced one; batches of one and more, square, tall and wide."""

VERIFICATION_MIXES: tuple[tuple[Size, tuple[Size, ...]], ...] = (
    ((SIZE_MULTIPLE, SIZE_MULTIPLE), ((SIZE_MULTIPLE, SIZE_MULTIPLE),)),  # nothing is outside
    ((64, 64), ((64, 64), (40, 64), (SIZE_MULTIPLE, SIZE_MULTIPLE))),
    ((96, 72), ((24, 72), (96, 16))),
    ((72, 200), ((64, 200),)),
)
"""A canvas, and the sizes of the images that share it: what a masked model is verified with as well."""


def shapes_within(profiles: Sequence[ShapeProfile]) -> tuple[Shape, ...]:
    """The verification shapes that a profile takes, then the smallest of each and the one it is best at, each once."""
    held = [shape for shape in VERIFICATION_SHAPES if any(profile.holds(extent_of(shape)) for profile in profiles)]
    extents = [extent for profile in profiles for extent in (profile.min, profile.opt)]
    return tuple(dict.fromkeys([*held, *((n, IMAGE_CHANNELS, h, w) for n, h, w in extents)]))


def extent_of(shape: tuple[int, ...]) -> Extent:
    """Batch, height and width of (N, 3, H, W)."""
    count, _, height, width = shape
    return count, height, width
