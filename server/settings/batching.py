"""Settings of batching: limits of the queue and of a batch."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from server.settings.group import Group, split

SIZE_MULTIPLE = 8
_SHAPE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def _padded_shapes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        found = _SHAPE.fullmatch(name)
        if found is None or any(int(side) % SIZE_MULTIPLE for side in found.groups()):
            raise ValueError(f"{name!r} is not WIDTHxHEIGHT, both multiples of {SIZE_MULTIPLE}, for example 1024x768")
    return names


PaddedShapeNames = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_padded_shapes)]


class BatchingSettings(Group):
    """Limits of the queue and of a batch."""

    max_batch: int = Field(
        default=8, ge=1, description="Most images per batch; more gain little once the device is busy, and cost memory."
    )
    max_backlog_ms: float = Field(
        default=30_000.0,
        gt=0,
        description="Longest predicted time until all admitted work is done; beyond it requests get 429.",
    )
    max_queued_pixels: int = Field(
        default=67_108_864, ge=1, description="Most pixels in the queue; each takes 12 bytes of memory."
    )
    padded_shapes: PaddedShapeNames = Field(
        default=(),
        description="Padded shapes for mixed-size batches of masked artifacts, as WIDTHxHEIGHT, each in both "
        "orientations. Unset, they are chosen from the traffic; set them if you know the sizes.",
    )

    @property
    def padded_shape_sides(self) -> list[tuple[int, int]]:
        """(height, width) of each of `padded_shapes`."""
        return [(int(high), int(wide)) for wide, _, high in (name.partition("x") for name in self.padded_shapes)]
