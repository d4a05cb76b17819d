"""Splits a batch into parts that each fit a shape profile of a TensorRT plan."""

from collections.abc import Sequence

from models.plan_manifest import ShapeOutsideProfiles, ShapeProfile
from server.backends.base import SizeRange
from server.errors import UnsupportedSize

FLOAT_BYTES = 4
CHANNELS = 3


def counts(profiles: Sequence[ShapeProfile], count: int, height: int, width: int) -> list[int]:
    """Return the images of each run, `count` in total, in as few runs as the profiles allow.

    Raises ShapeOutsideProfiles if no sequence of runs adds up to that count.
    """
    ranges = [
        (profile.min[0], profile.max[0])
        for profile in profiles
        if profile.min[1] <= height <= profile.max[1] and profile.min[2] <= width <= profile.max[2]
    ]
    largest = max((most for _, most in ranges), default=0)
    parts, left = [], count
    while left:
        held = [min(left, most) for least, most in ranges if least <= left]
        if not held:
            taken = " or ".join(sorted({str(profile) for profile in profiles}))
            raise ShapeOutsideProfiles(
                f"no profile of the plan takes {count} images of {height}x{width} (height x width); it takes {taken}, "
                f"smallest:best:largest as batch x height x width{f', at most {largest} together' if largest else ''}"
            )
        parts.append(max(held))
        left -= parts[-1]
    return parts


def size_ranges(profiles: Sequence[ShapeProfile]) -> tuple[SizeRange, ...]:
    """Return the sizes of single images that the profiles accept."""
    return tuple(SizeRange(one.min[1:], one.max[1:]) for one in profiles if one.min[0] == 1)


def allowed_sizes(profiles: Sequence[ShapeProfile]) -> list[dict[str, int]]:
    """Return the distinct ranges of width and height that the profiles accept, in pixels."""
    ranges = {(profile.min[2], profile.min[1], profile.max[2], profile.max[1]) for profile in profiles}
    names = ("min_width", "min_height", "max_width", "max_height")
    return [dict(zip(names, limits, strict=True)) for limits in sorted(ranges)]


def check_size(profiles: Sequence[ShapeProfile], height: int, width: int) -> None:
    """Raise UnsupportedSize if no profile accepts an image of this size."""
    sizes = allowed_sizes(profiles)
    for size in sizes:
        if size["min_width"] <= width <= size["max_width"] and size["min_height"] <= height <= size["max_height"]:
            return
    ranges = " or ".join("{min_width}x{min_height} to {max_width}x{max_height}".format_map(size) for size in sizes)
    raise UnsupportedSize(
        f"an image of {width}x{height} pixels, rounded up to whole steps of the network, is outside the sizes that "
        f"this server's model was built for: {ranges} (width x height)",
        allowed_sizes=sizes,
    )


def tensor_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of a float32 tensor (N, 3, H, W)."""
    size = FLOAT_BYTES
    for axis in shape:
        size *= axis
    return size
