"""Training loop with checkpoints from which a run resumes bit-exactly."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import first_problem, shapes_of
from models.restoration import RestorationNetwork, channels_last
from models.training.dataset import Batch, PatchDataset, ValidationSets
from models.training.losses import balanced_rmse, head_loss
from models.training.schedule import Schedule
from models.variants import NetworkConfig, build

CHECKPOINT_FILE = "last.pt"
CHECKPOINT_FORMAT = 2
EMA_RAMP_STEPS = 10
"""The moving average's decay is at most (1 + step) / (ramp + step), so that it follows the weights closely at first."""

ADAM_BETAS = (0.9, 0.99)
REFERENCE_PATCH = 64
"""Throughput is counted in patches of this side, which makes stages comparable."""


class TrainingError(ValueError):
    """Run that cannot start or continue; the message has the reason."""


@dataclass(frozen=True)
class Progress:
    """State of a run after a step."""

    step: int
    loss: float
    learning_rate: float
    done: float
    """Share of the run, in [0, 1]."""
    patches: int
    """Patches seen so far, counted in patches of 64x64."""
    patches_per_second: float


class Trainer:
    """Training run: network, moving average of its weights (EMA), optimiser and step count."""

    def __init__(
        self,
        config: NetworkConfig,
        schedule: Schedule,
        dataset: PatchDataset,
        device: str,
        mixed_precision: bool,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.config = config
        self.schedule = schedule
        self.step = 0
        self.seconds = 0.0
        self.patches = 0.0
        self._dataset = dataset
        self._device = torch.device(device)
        self._mixed_precision = mixed_precision
        self.network = channels_last(build(config).to(self._device))
        self.ema = channels_last(build(config).to(self._device).eval().requires_grad_(False))
        # Compiled once for each patch size: with dynamic shapes, the CPU code is slower.
        self._outputs = torch.compile(self.network.outputs, dynamic=False) if compiled else self.network.outputs
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
        """Start from trained weights instead of random ones.

        Residual blocks that `state` lacks stay the identity, so that a deeper network begins as the trained one.
        Raises `TrainingError` if anything else differs.
        """
        fresh = self.network.state_dict()
        new = tuple(b for b in _residual_blocks(self.network) if not any(name.startswith(b) for name in state))
        problem = first_problem(state, shapes_of(self.config), [name for name in fresh if name.startswith(new)])
        if problem is not None:
            raise TrainingError(f"cannot start from these weights: {problem}")
        self.network.load_state_dict(fresh | state)
        self.ema.load_state_dict(fresh | state)

    @property
    def done(self) -> float:
        """Return the share of the run that is done, in [0, 1]."""
        return self.schedule.progress(self.step, self.seconds)

    def fit(self, on_step: Callable[[Progress], None], until: int | None = None) -> None:
        """Train to the end, or to the step `until`; call `on_step` after each step.

        Raises `TrainingError` if the loss becomes non-finite. Batches are prepared in a separate thread.
        """
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = pool.submit(self._batch, self.step, self.done)
            while self.done < 1.0 and (until is None or self.step < until):
                batch = pending.result()
                pending = pool.submit(self._batch, self.step + 1, self.done)
                started = time.monotonic()
                rate = self.schedule.learning_rate_at(self.step, self.done)
                loss = self._learn(batch, rate)
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss became {loss} at step {self.step}; lower the learning rate")
                self.step += 1
                seconds = time.monotonic() - started
                count, _, height, width = batch.target.shape
                patches = count * height * width / REFERENCE_PATCH**2
                self.seconds += seconds
                self.patches += patches
                on_step(Progress(self.step, loss, rate, self.done, round(self.patches), patches / seconds))

    def _batch(self, step: int, done: float) -> Batch:
        # With a length in steps, progress, and so the batch, depends only on the step.
        stage = self.schedule.stage_at(done if self.schedule.steps is None else self.schedule.progress(step, 0.0))
        return self._dataset.batch(step, stage.batch, stage.patch)

    def _learn(self, batch: Batch, rate: float) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        source, target = (
            torch.from_numpy(side).to(self._device, memory_format=torch.channels_last)
            for side in (batch.degraded, batch.target)
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed_precision):
            outputs = self._outputs(source)
        loss = balanced_rmse(outputs.restored.float(), target)
        if outputs.degradations is not None and self.schedule.head_weight:
            labels = torch.from_numpy(batch.labels).to(self._device)
            loss = loss + self.schedule.head_weight * head_loss(outputs.degradations.float(), labels)
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
    def validate(self, sets: ValidationSets) -> dict[str, float]:
        """Measure the PSNR in dB of the averaged weights on each validation set, in full precision."""
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
        """Write the checkpoint atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "format": CHECKPOINT_FORMAT,
            "config": asdict(self.config),
            "schedule": asdict(self.schedule),
            "step": self.step,
            "seconds": self.seconds,
            "patches": self.patches,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        temporary = folder / f"{CHECKPOINT_FILE}.tmp"
        torch.save(state, temporary)
        temporary.replace(folder / CHECKPOINT_FILE)

    def resume(self, folder: Path) -> None:
        """Continue from the checkpoint in `folder`; raise `TrainingError` if it belongs to another run."""
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
        self.step, self.seconds, self.patches = state["step"], state["seconds"], state["patches"]


def begin_as_identity(network: RestorationNetwork) -> None:
    """Zero the last layer of every residual branch, so that the initial network is the identity."""
    for name, parameter in network.named_parameters():
        if name.endswith("project_out.weight") or name == "output.weight":
            torch.nn.init.zeros_(parameter)


def _residual_blocks(network: RestorationNetwork) -> list[str]:
    """Return the prefixes of the parameters of each residual block in a level."""
    return [
        f"{level}.{index}."
        for level, module in network.named_modules()
        if isinstance(module, torch.nn.Sequential)
        for index, block in module.named_children()
        if any(name.endswith("project_out.weight") for name, _ in block.named_parameters())
    ]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
