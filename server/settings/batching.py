"""Batching settings: how much may wait and how much runs together."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from server.settings.group import Group, split

SIZE_MULTIPLE = 8
_CANVAS = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def _padded_shapes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        found = _CANVAS.fullmatch(name)
        if found is None or any(int(side) % SIZE_MULTIPLE for side in found.groups()):
            raise ValueError(f"{name!r} is not WIDTHxHEIGHT, both multiples of {SIZE_MULTIPLE}, for example 1024x768")
    return names


PaddedShapeNames = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_padded_shapes)]


class BatchingSettings(Group):
    """How much may wait and how much runs together."""

    max_batch: int = Field(
        default=8, ge=1, description="Images of one run; more gain little once the device is busy, and cost memory."
    )
    max_backlog_ms: float = Field(
        default=30_000.0,
        gt=0,
        description="Predicted time until all that was admitted is done; beyond it 429, because nobody waits longer.",
    )
    max_queued_pixels: int = Field(
        default=67_108_864, ge=1, description="Bounds the memory of what waits: 12 bytes per pixel."
    )
    padded_shapes: PaddedShapeNames = Field(
        default=(),
        description="Of masked artifacts: what images of several sizes may share a run in, WIDTHxHEIGHT, and turned. "
        "Unset, they are chosen from the traffic; one who knows the sizes can choose better.",
    )

    @property
    def padded_shape_sides(self) -> list[tuple[int, int]]:
        """The height and the width of each of `padded_shapes`."""
        return [(int(high), int(wide)) for wide, _, high in (name.partition("x") for name in self.padded_shapes)]
