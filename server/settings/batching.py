"""Batching settings: how much may wait and how much runs together."""

from pydantic import Field

from server.settings.group import Group


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
