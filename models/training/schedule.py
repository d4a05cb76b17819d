"""Training schedule: length of a run, patch sizes and learning rate."""

import math
from dataclasses import dataclass, field

from models.training.mix import Mix


@dataclass(frozen=True)
class Stage:
    """Batches of `batch` patches of `patch` x `patch`, until the share `until` of the run is done."""

    until: float
    patch: int
    batch: int


@dataclass(frozen=True)
class Schedule:
    """Training schedule; raises `ValueError` unless its length is given either in steps or in minutes.

    Runs with equal schedules in steps, photos and seeds give equal weights. In a run given in minutes, patches and
    learning rate follow the training time, which excludes interruptions.
    """

    steps: int | None = None
    minutes: float | None = None
    stages: tuple[Stage, ...] = (Stage(0.5, 64, 8), Stage(0.8, 96, 4), Stage(1.0, 128, 2))
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    head_weight: float = 0.1
    mix: Mix = field(default_factory=Mix)
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a run needs a length in steps or in minutes, not both")

    def progress(self, step: int, seconds: float) -> float:
        """Return the share of the run, in [0, 1], that is done after `step` steps and `seconds` of training."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None  # noqa: S101 - one of the two is given
        return min(1.0, seconds / (60.0 * self.minutes))

    def stage_at(self, progress: float) -> Stage:
        """Return the stage at the share `progress` of the run."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Return the learning rate: linear warm-up by steps, then cosine decay to `final_learning_rate` by progress."""
        span = self.learning_rate - self.final_learning_rate
        rate = self.final_learning_rate + span * 0.5 * (1.0 + math.cos(math.pi * progress))
        return rate * min(1.0, (step + 1) / max(1, self.warmup_steps))
