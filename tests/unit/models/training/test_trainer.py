"""Tests of the trainer: learning, schedule and bit-exact resuming."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.training import trainer
from models.training.dataset import PatchDataset
from models.training.mix import Mix
from models.training.schedule import Schedule, Stage
from models.training.trainer import Progress, Trainer, TrainingError
from models.variants import variant

BODIES = ["promptir-tiny", "promptnaf-tiny"]
SHORT = Schedule(steps=6, stages=(Stage(0.5, 16, 2), Stage(1.0, 24, 1)), warmup_steps=2)


def photos() -> list[np.ndarray]:
    rows, columns = np.mgrid[0:64, 0:64]
    return [np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=2).astype(np.uint8)]


def make_trainer(schedule: Schedule = SHORT, body: str = "promptnaf-tiny") -> Trainer:
    return Trainer(variant(body), schedule, PatchDataset(photos(), schedule.seed), "cpu", mixed_precision=False)


def ignore(_: Progress) -> None:
    pass


@pytest.mark.parametrize("body", BODIES)
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path, body: str) -> None:
    whole = make_trainer(body=body)
    whole.fit(ignore)

    first_half = make_trainer(body=body)
    first_half.fit(ignore, until=4)
    first_half.save(tmp_path)
    second_half = make_trainer(body=body)
    second_half.resume(tmp_path)
    assert second_half.step == 4
    second_half.fit(ignore)

    for kept, resumed in ((whole.network, second_half.network), (whole.ema, second_half.ema)):
        other = resumed.state_dict()
        for name, tensor in kept.state_dict().items():
            assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("body", BODIES)
def test_training_lowers_the_loss_on_noise(body: str) -> None:
    schedule = Schedule(steps=60, stages=(Stage(1.0, 24, 4),), learning_rate=3e-3, warmup_steps=5)
    only_noise = PatchDataset(photos(), 0, Mix({"gaussian": 1.0}))
    trainer = Trainer(variant(body), schedule, only_noise, "cpu", mixed_precision=False)
    losses: list[float] = []
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:5])


def test_the_degradation_head_learns_to_tell_haze_from_noise() -> None:
    schedule = Schedule(
        steps=80, stages=(Stage(1.0, 32, 4),), learning_rate=3e-3, warmup_steps=5, head_weight=1.0, ema_decay=0.9
    )
    mix = Mix({"gaussian": 1.0, "haze": 1.0})
    trainer = Trainer(variant("promptnaf-tiny"), schedule, PatchDataset(photos(), 0, mix), "cpu", mixed_precision=False)
    trainer.fit(ignore)
    batch = PatchDataset(photos(), 1, mix).batch(0, 32, 32)
    with torch.inference_mode():
        logits = trainer.ema.outputs(torch.from_numpy(batch.degraded)).degradations
    known = batch.labels[:, [0, 2]]  # noise, haze
    told = logits.numpy()[:, [0, 2]] > 0
    assert (told == known).mean() > 0.8


def test_the_average_follows_the_weights() -> None:
    trainer = make_trainer()
    before = {name: tensor.clone() for name, tensor in trainer.ema.state_dict().items()}
    trainer.fit(ignore)
    moved = trainer.ema.state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert any(not torch.equal(moved[name], tensor) for name, tensor in trainer.network.state_dict().items())


def test_progress_counts_every_step_and_patch() -> None:
    seen: list[Progress] = []
    make_trainer().fit(seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].done == 1.0
    assert all(progress.patches_per_second > 0 for progress in seen)
    assert seen[-1].patches == round((3 * 2 * 16 * 16 + 3 * 24 * 24) / 64**2)


def test_a_run_by_the_clock_ends_when_its_time_is_over_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(step=4.0)  # so long does each step take, on a machine however busy
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    schedule = Schedule(minutes=0.5, stages=(Stage(1.0, 16, 1),), warmup_steps=1)
    first = make_trainer(schedule)
    first.fit(ignore, until=1)
    assert first.done == 4 / 30
    first.save(tmp_path)
    second = make_trainer(schedule)
    second.resume(tmp_path)
    assert second.done == first.done
    second.fit(ignore)
    assert second.done == 1.0
    assert second.step == 8


def test_another_runs_checkpoint_is_refused_with_the_first_difference(tmp_path: Path) -> None:
    make_trainer().save(tmp_path)
    longer = make_trainer(replace(SHORT, steps=9))
    with pytest.raises(TrainingError, match=r"schedule differs in steps \(6 there, 9 asked for\)"):
        longer.resume(tmp_path)


def test_a_run_can_start_from_trained_weights() -> None:
    donor, heir = make_trainer(), make_trainer(replace(SHORT, seed=1))
    heir.start_from(donor.network.state_dict())
    for name, tensor in donor.network.state_dict().items():
        assert torch.equal(tensor, heir.network.state_dict()[name])
        assert torch.equal(tensor, heir.ema.state_dict()[name])


@pytest.mark.parametrize(
    ("body", "deeper"),
    [
        ("promptnaf-tiny", {"latent_blocks": 2, "decoder_blocks": (1, 3, 1)}),
        ("promptir-tiny", {"blocks": (1, 2, 1, 2)}),
    ],
)
def test_a_deeper_network_starts_as_the_trained_one(body: str, deeper: dict[str, Any]) -> None:
    donor = make_trainer(body=body)
    donor.fit(ignore)
    heir = Trainer(replace(variant(body), **deeper), SHORT, PatchDataset(photos(), 0), "cpu", mixed_precision=False)
    heir.start_from(donor.ema.state_dict())
    image = torch.rand(1, 3, 16, 24)
    assert not torch.equal(heir.ema(image), image)
    assert torch.equal(heir.ema(image), donor.ema(image))

    before = {name: tensor.clone() for name, tensor in heir.network.state_dict().items()}
    heir.fit(ignore)
    new = [name for name in before if name not in donor.ema.state_dict()]
    assert any(not torch.equal(before[name], heir.network.state_dict()[name]) for name in new)


def test_weights_of_another_network_are_refused_by_the_first_difference() -> None:
    donor, heir = make_trainer().network.state_dict(), make_trainer()
    first = next(iter(donor))
    with pytest.raises(TrainingError, match=f"extra.{first} .* is not part of the network"):
        heir.start_from(donor | {f"extra.{first}": donor[first]})
    with pytest.raises(TrainingError, match=f"{first} has shape .*, the network has"):
        heir.start_from(donor | {first: donor[first][1:]})
    part_of_a_block = "latent.0.project_out.weight"
    for lacking in (first, part_of_a_block):
        with pytest.raises(TrainingError, match=f"{lacking} .* is missing"):
            heir.start_from({name: tensor for name, tensor in donor.items() if name != lacking})


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    trainer = make_trainer()
    trainer.start_from({name: torch.full_like(t, torch.nan) for name, t in trainer.network.state_dict().items()})
    with pytest.raises(TrainingError, match="the loss became nan at step 0"):
        trainer.fit(ignore)


def test_mixed_precision_trains_too() -> None:
    trainer = Trainer(variant("promptnaf-tiny"), SHORT, PatchDataset(photos(), 0), "cpu", mixed_precision=True)
    losses: list[float] = []
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert np.isfinite(losses).all()
    assert all(parameter.dtype == torch.float32 for parameter in trainer.network.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # the compiler's own import
def test_a_compiled_run_follows_the_ordinary_one() -> None:
    losses: list[list[float]] = []
    for compiled in (False, True):
        dataset = PatchDataset(photos(), 0)
        trainer = Trainer(variant("promptnaf-tiny"), SHORT, dataset, "cpu", mixed_precision=False, compiled=compiled)
        steps: list[Progress] = []
        trainer.fit(steps.append)
        losses.append([step.loss for step in steps])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_training_starts_from_the_unchanged_image() -> None:
    image = torch.rand(1, 3, 16, 24)
    for body in BODIES:
        assert torch.equal(make_trainer(body=body).ema(image), image)
