"""Trainer: fits a network to degraded patches and keeps a checkpoint from which the run resumes to the bit."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.promptir import PromptIR, PromptIRConfig, channels_last
from models.training.dataset import Mix, PatchDataset
from models.training.degradations import Image

CHECKPOINT_FILE = "last.pt"
CHECKPOINT_FORMAT = 1
EMA_RAMP_STEPS = 10
"""The average follows the weights closely at first: its decay is at most (1 + step) / (ramp + step)."""

ADAM_BETAS = (0.9, 0.99)
L1_FLOOR = 1e-4
"""Keeps the gradient of the root bounded at an image that is restored perfectly."""


class TrainingError(ValueError):
    """The run cannot start or go on; the message says why."""


@dataclass(frozen=True)
class Stage:
    """Batches of `batch` patches of `patch` x `patch`, until the share `until` of all steps is done."""

    until: float
    patch: int
    batch: int


@dataclass(frozen=True)
class Schedule:
    """What a run does; two runs with equal schedules, photos and seed give equal weights."""

    steps: int
    stages: tuple[Stage, ...] = (Stage(0.5, 64, 8), Stage(0.8, 96, 4), Stage(1.0, 128, 2))
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    mix: Mix = field(default_factory=Mix)
    seed: int = 0

    def stage_at(self, step: int) -> Stage:
        share = step / self.steps
        return next((stage for stage in self.stages if share < stage.until), self.stages[-1])

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to `final_learning_rate`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_left: float


class Trainer:
    """One run: network, its moving average (EMA), optimiser and the step count. `fit` runs it to the end."""

    def __init__(
        self, config: PromptIRConfig, schedule: Schedule, dataset: PatchDataset, device: str, mixed_precision: bool
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.config = config
        self.schedule = schedule
        self.step = 0
        self._dataset = dataset
        self._device = torch.device(device)
        self._mixed_precision = mixed_precision
        self.network = channels_last(PromptIR(config).to(self._device))
        self.ema = channels_last(PromptIR(config).to(self._device).eval().requires_grad_(False))
        begin_as_identity(self.network)
        self.ema.load_state_dict(self.network.state_dict())
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=schedule.learning_rate,
            betas=ADAM_BETAS,
            weight_decay=schedule.weight_decay,
            fused=True,
        )

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Begin from trained weights instead of random ones."""
        self.network.load_state_dict(state)
        self.ema.load_state_dict(state)

    def fit(self, on_step: Callable[[Progress], None], until: int | None = None) -> None:
        """Train up to step `until` (the schedule's end by default), calling `on_step` after each step.

        The next batch is made in a thread while one is being learnt from.
        """
        last = self.schedule.steps if until is None else min(until, self.schedule.steps)
        started, first = time.monotonic(), self.step
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="patches") as pool:
            pending = pool.submit(self._batch, self.step)
            while self.step < last:
                degraded, clean = pending.result()
                pending = pool.submit(self._batch, self.step + 1)
                loss = self._learn(degraded, clean)
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss became {loss} at step {self.step}; lower the learning rate")
                self.step += 1
                pace = (time.monotonic() - started) / (self.step - first)
                rate = self.schedule.learning_rate_at(self.step - 1)
                on_step(Progress(self.step, self.schedule.steps, loss, rate, pace * (last - self.step)))

    def _batch(self, step: int) -> tuple[Image, Image]:
        stage = self.schedule.stage_at(step)
        return self._dataset.batch(step, stage.batch, stage.patch)

    def _learn(self, degraded: Image, clean: Image) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.step)
        source = torch.from_numpy(degraded).to(self._device, memory_format=torch.channels_last)
        target = torch.from_numpy(clean).to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed_precision):
            restored = self.network(source)
        loss = balanced_l1(restored.float(), target)
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.gradient_clip)
        self._optimiser.step()
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.schedule.ema_decay, (1 + self.step) / (EMA_RAMP_STEPS + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1.0 - decay)

    @torch.inference_mode()
    def validate(self, sets: dict[str, tuple[Image, Image]]) -> dict[str, float]:
        """PSNR in dB of the averaged weights per validation set, in full precision."""
        scores = {}
        for kind, (degraded, clean) in sets.items():
            psnrs = []
            for spoiled, target in zip(degraded, clean, strict=True):
                restored = self.ema(torch.from_numpy(spoiled[None]).to(self._device)).clamp(0, 1).cpu()
                mse = float((restored[0] - torch.from_numpy(target)).square().mean())
                psnrs.append(-10.0 * math.log10(max(mse, 1e-12)))
            scores[kind] = sum(psnrs) / len(psnrs)
        return scores

    def save(self, folder: Path) -> None:
        """Write the checkpoint; the one before stays whole until the new one is."""
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "format": CHECKPOINT_FORMAT,
            "config": asdict(self.config),
            "schedule": asdict(self.schedule),
            "step": self.step,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        temporary = folder / f"{CHECKPOINT_FILE}.tmp"
        torch.save(state, temporary)
        temporary.replace(folder / CHECKPOINT_FILE)

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`; `TrainingError` when it belongs to another run."""
        state = torch.load(folder / CHECKPOINT_FILE, map_location=self._device, weights_only=True)
        if state.get("format") != CHECKPOINT_FORMAT:
            raise TrainingError(f"{folder / CHECKPOINT_FILE} has format {state.get('format')}, not {CHECKPOINT_FORMAT}")
        for what, mine in (("config", asdict(self.config)), ("schedule", asdict(self.schedule))):
            changed = [key for key in mine if _plain(mine[key]) != _plain(state[what].get(key))]
            if changed:
                raise TrainingError(
                    f"cannot resume {folder}: its {what} differs in {changed[0]} "
                    f"({state[what].get(changed[0])!r} there, {mine[changed[0]]!r} asked for)"
                )
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def balanced_l1(restored: Tensor, target: Tensor) -> Tensor:
    """L1 of each image under a square root, then the mean, of (N, 3, H, W).

    The root weighs an image by one over the root of its error: in a plain mean the thick haze, whose error is ten times
    that of light noise, decides most steps, and under a logarithm it is not learnt at all.
    """
    return ((restored - target).abs().mean(dim=(1, 2, 3)) + L1_FLOOR).sqrt().mean()


def begin_as_identity(network: PromptIR) -> None:
    """Zero the last layer of every residual branch, so that training starts from the unchanged image."""
    for name, parameter in network.named_parameters():
        if name.endswith("project_out.weight") or name == "output.weight":
            torch.nn.init.zeros_(parameter)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
