"""The command line `promptir-train`: fit a network, evaluate weights."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from models.checkpoint import CheckpointError, load_network, load_weights
from models.promptir import VARIANTS, PromptIRConfig
from models.training.dataset import (
    DatasetError,
    Mix,
    PatchDataset,
    ValidationSets,
    photo_paths,
    read_photo,
    validation_set,
)
from models.training.evaluate import evaluate_clean, evaluate_pairs, format_table
from models.training.trainer import CHECKPOINT_FILE, Progress, Schedule, Stage, Trainer, TrainingError

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.jsonl"
VALIDATION_PATCH = 192
VALIDATION_PHOTO_EVERY = 12
"""One photo in twelve is kept out of training and validated on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (DatasetError, TrainingError, CheckpointError, FileNotFoundError, ValueError) as error:
        print(f"promptir-train: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="promptir-train", description=__doc__)
    commands = parser.add_subparsers(required=True)
    defaults = Schedule(steps=1)

    fit = commands.add_parser("fit", help="train a network on a folder of clean photos")
    fit.set_defaults(run=_fit)
    fit.add_argument("photos", type=Path, nargs="+", help="folders of clean photos")
    fit.add_argument("--output", type=Path, required=True, help="folder of the run; an unfinished run there resumes")
    fit.add_argument("--variant", choices=sorted(VARIANTS), default="promptir-compact")
    fit.add_argument("--steps", type=int, required=True)
    fit.add_argument("--until", type=int, metavar="STEP", help="stop there; called again without it, the run goes on")
    fit.add_argument("--stages", type=_stage, nargs="+", default=defaults.stages, metavar="UNTIL:PATCHxBATCH")
    fit.add_argument(
        "--mix", type=float, nargs=4, default=defaults.mix.shares, metavar=("NOISE", "IN_BETWEEN", "RAIN", "HAZE")
    )
    fit.add_argument(
        "--jpeg", type=float, default=defaults.mix.jpeg, metavar="SHARE", help="of patches saved as JPEG files"
    )
    fit.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    fit.add_argument("--warmup-steps", type=int, default=defaults.warmup_steps)
    fit.add_argument("--ema-decay", type=float, default=defaults.ema_decay)
    fit.add_argument("--seed", type=int, default=defaults.seed)
    fit.add_argument("--init", type=Path, help="start from these weights instead of random ones")
    fit.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    fit.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if _bf16_is_fast() else "fp32")
    fit.add_argument("--validate-every", type=int, default=500, metavar="STEPS")

    evaluate = commands.add_parser("evaluate", help="measure PSNR and SSIM of weights")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("weights", type=Path)
    evaluate.add_argument("--variant", choices=sorted(VARIANTS), default="promptir-compact")
    evaluate.add_argument("--clean", type=Path, nargs="*", default=[], help="folders of clean images, degraded here")
    evaluate.add_argument("--pairs", type=Path, nargs="*", default=[], help="folders that hold input/ and target/")
    evaluate.add_argument("--json", type=Path, help="also write the figures to this file")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def _stage(text: str) -> Stage:
    try:
        until, _, size = text.partition(":")
        patch, batch = size.split("x")
        return Stage(float(until), int(patch), int(batch))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UNTIL:PATCHxBATCH, for example 0.5:64x8") from None


def _bf16_is_fast() -> bool:
    return torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()


def _fit(options: argparse.Namespace) -> int:
    paths = [path for folder in options.photos for path in photo_paths(folder)]
    held_out = paths[VALIDATION_PHOTO_EVERY // 2 :: VALIDATION_PHOTO_EVERY]
    training = [path for path in paths if path not in held_out]
    noise, in_between, rain, haze = options.mix
    schedule = Schedule(
        steps=options.steps,
        stages=tuple(options.stages),
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        ema_decay=options.ema_decay,
        mix=Mix(noise, in_between, rain, haze, options.jpeg),
        seed=options.seed,
    )
    config = PromptIRConfig.named(options.variant)
    dataset = PatchDataset([read_photo(path) for path in training], options.seed, schedule.mix)
    sets = validation_set([read_photo(path) for path in held_out], VALIDATION_PATCH, options.seed)
    trainer = Trainer(config, schedule, dataset, options.device, options.precision == "bf16")
    if (options.output / CHECKPOINT_FILE).exists():
        trainer.resume(options.output)
        print(f"resuming {options.output} at step {trainer.step}", file=sys.stderr)
    elif options.init:
        trainer.start_from(load_weights(options.init, config).state_dict)
    _run(trainer, sets, options.output, options.validate_every, options.until)
    return 0


def _run(trainer: Trainer, sets: ValidationSets, output: Path, validate_every: int, until: int | None) -> None:
    steps = trainer.schedule.steps if until is None else min(until, trainer.schedule.steps)
    with tqdm(total=steps, initial=trainer.step, unit="step", smoothing=0.02) as bar:

        def on_step(progress: Progress) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {progress.loss:.4f} lr {progress.learning_rate:.1e}", refresh=False)
            if progress.step % validate_every and progress.step != steps:
                return
            scores = trainer.validate(sets)
            bar.write(f"step {progress.step}: " + "  ".join(f"{kind} {psnr:.2f}" for kind, psnr in scores.items()))
            trainer.save(output)
            save_file({name: w.contiguous() for name, w in trainer.ema.state_dict().items()}, output / WEIGHTS_FILE)
            with (output / HISTORY_FILE).open("a", encoding="utf-8") as history:
                history.write(json.dumps({"step": progress.step, "loss": progress.loss, "psnr": scores}) + "\n")

        trainer.fit(on_step, until)


def _evaluate(options: argparse.Namespace) -> int:
    if not options.clean and not options.pairs:
        raise DatasetError("nothing to evaluate: name folders with --clean or --pairs")
    network = load_network(options.weights, PromptIRConfig.named(options.variant)).to(options.device)
    rows = [row for folder in options.clean for row in evaluate_clean(network, folder, options.seed)]
    rows += [evaluate_pairs(network, folder) for folder in options.pairs]
    print(format_table(rows))
    if options.json:
        options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
