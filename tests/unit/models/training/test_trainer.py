"""A run learns, follows its schedule, and resumes to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.promptir import PromptIRConfig
from models.training.dataset import Mix, PatchDataset
from models.training.trainer import Progress, Schedule, Stage, Trainer, TrainingError, balanced_l1

TINY = PromptIRConfig.named("promptir-tiny")
SHORT = Schedule(steps=6, stages=(Stage(0.5, 16, 2), Stage(1.0, 24, 1)), warmup_steps=2)


def photos() -> list[np.ndarray]:
    rows, columns = np.mgrid[0:64, 0:64]
    return [np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=2).astype(np.uint8)]


def make_trainer(schedule: Schedule = SHORT) -> Trainer:
    return Trainer(TINY, schedule, PatchDataset(photos(), schedule.seed), "cpu", mixed_precision=False)


def ignore(_: Progress) -> None:
    pass


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    whole = make_trainer()
    whole.fit(ignore)

    first_half = make_trainer()
    first_half.fit(ignore, until=4)
    first_half.save(tmp_path)
    second_half = make_trainer()
    second_half.resume(tmp_path)
    assert second_half.step == 4
    second_half.fit(ignore)

    for kept, resumed in ((whole.network, second_half.network), (whole.ema, second_half.ema)):
        other = resumed.state_dict()
        for name, tensor in kept.state_dict().items():
            assert torch.equal(tensor, other[name]), name


def test_training_lowers_the_loss_on_noise() -> None:
    schedule = Schedule(steps=60, stages=(Stage(1.0, 24, 4),), learning_rate=3e-3, warmup_steps=5)
    only_noise = PatchDataset(photos(), 0, Mix(noise=1.0, in_between_noise=0.0, rain=0.0, haze=0.0))
    trainer = Trainer(TINY, schedule, only_noise, "cpu", mixed_precision=False)
    losses: list[float] = []
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_the_average_follows_the_weights() -> None:
    trainer = make_trainer()
    before = {name: tensor.clone() for name, tensor in trainer.ema.state_dict().items()}
    trainer.fit(ignore)
    moved = trainer.ema.state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert any(not torch.equal(moved[name], tensor) for name, tensor in trainer.network.state_dict().items())


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, final_learning_rate=0.01, warmup_steps=10)
    rates = [schedule.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_stages_follow_each_other() -> None:
    schedule = Schedule(steps=10, stages=(Stage(0.5, 64, 8), Stage(0.8, 96, 4), Stage(1.0, 128, 2)))
    assert [schedule.stage_at(step).patch for step in range(11)] == [64] * 5 + [96] * 3 + [128] * 3


def test_progress_counts_every_step_and_ends_with_no_time_left() -> None:
    seen: list[Progress] = []
    make_trainer().fit(seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].seconds_left == 0.0
    assert all(progress.seconds_left > 0.0 for progress in seen[:-1])


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


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    trainer = make_trainer()
    trainer.start_from({name: torch.full_like(t, torch.nan) for name, t in trainer.network.state_dict().items()})
    with pytest.raises(TrainingError, match="the loss became nan at step 0"):
        trainer.fit(ignore)


def test_mixed_precision_trains_too() -> None:
    trainer = Trainer(TINY, SHORT, PatchDataset(photos(), 0), "cpu", mixed_precision=True)
    losses: list[float] = []
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert np.isfinite(losses).all()
    assert all(parameter.dtype == torch.float32 for parameter in trainer.network.parameters())


def test_training_starts_from_the_unchanged_image() -> None:
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(make_trainer().ema(image), image)


def test_an_image_with_a_large_error_counts_more_but_less_than_in_proportion() -> None:
    target = torch.zeros(2, 3, 8, 8)
    restored = torch.stack([torch.full((3, 8, 8), 0.01), torch.full((3, 8, 8), 0.16)]).requires_grad_()
    balanced_l1(restored, target).backward()
    light, heavy = restored.grad.abs().mean(dim=(1, 2, 3))
    assert light / heavy == pytest.approx(4.0, rel=0.01), "the root of the sixteenfold error"


def test_a_perfect_restoration_gives_a_bounded_gradient() -> None:
    restored = torch.zeros(1, 3, 8, 8, requires_grad=True)
    balanced_l1(restored, torch.zeros(1, 3, 8, 8)).backward()
    assert torch.isfinite(restored.grad).all()
