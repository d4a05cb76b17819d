"""Command line `python -m models.training`: train, average, calibrate and evaluate weights."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from models.checkpoint import CheckpointError, load_network, load_weights, variant_of
from models.degradation_head import LABELS
from models.photos import DatasetError, Photo, photo_paths, read_photo
from models.training.contact_sheet import contact_sheet
from models.training.dataset import PatchDataset, ValidationSets, middle, validation_set
from models.training.evaluate import evaluate_clean, evaluate_pairs, format_table, worst_flat_error
from models.training.head_fit import draw_examples, fit_head, raise_log_odds
from models.training.label_accuracy import label_accuracy
from models.training.mix import Mix
from models.training.near_duplicates import near_duplicate, perceptual_hash, read_hashes
from models.training.schedule import Schedule, Stage
from models.training.trainer import CHECKPOINT_FILE, Progress, Trainer, TrainingError
from models.variants import VARIANTS, variant

PROGRAM = "models.training"
WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.jsonl"
VALIDATION_PATCH = 192
BAR_FORMAT = "{percentage:5.1f}% {bar} {elapsed} {postfix}"
EVALUATION_PICTURES = read_hashes()
LABEL_CROP = 192
VALIDATION_PHOTO_EVERY = 12
"""One photo in twelve is held out of training."""
VALIDATION_PHOTOS = 8
"""Number of held-out photos used for validation during a run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (DatasetError, TrainingError, CheckpointError, FileNotFoundError, ValueError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_fit(commands)
    _add_average(commands)
    _add_calibrate(commands)
    _add_evaluate(commands)
    return parser


def _add_fit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    defaults = Schedule(steps=1)
    fit = commands.add_parser("fit", help="train a network on a folder of clean photos")
    fit.set_defaults(run=_fit)
    fit.add_argument("photos", type=Path, nargs="+", help="folders of clean photos")
    fit.add_argument("--output", type=Path, required=True, help="output folder; an unfinished run in it is resumed")
    fit.add_argument("--variant", choices=sorted(VARIANTS), default="promptnaf")
    length = fit.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="number of steps; equal options give equal weights")
    length.add_argument(
        "--minutes", type=float, help="training time in minutes; the number of steps depends on the machine"
    )
    fit.add_argument("--until", type=int, metavar="STEP", help="stop at this step; run again without it to continue")
    fit.add_argument("--stages", type=_stage, nargs="+", default=defaults.stages, metavar="UNTIL:PATCHxBATCH")
    fit.add_argument(
        "--mix",
        type=_share,
        nargs="+",
        default=[],
        metavar="NAME=SHARE",
        help="relative frequencies of degradations",
    )
    fit.add_argument(
        "--head-weight", type=float, default=defaults.head_weight, help="weight of the degradation head's loss"
    )
    fit.add_argument("--threads", type=int, help="CPU threads of PyTorch (default: PyTorch's choice)")
    fit.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    fit.add_argument("--warmup-steps", type=int, default=defaults.warmup_steps)
    fit.add_argument("--ema-decay", type=float, default=defaults.ema_decay)
    fit.add_argument("--seed", type=int, default=defaults.seed)
    fit.add_argument("--init", type=Path, help="start from these weights, of the variant or of a shallower one")
    fit.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    fit.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if _bf16_is_fast() else "fp32")
    fit.add_argument(
        "--compile",
        action="store_true",
        help="compile the network: faster steps, after minutes for each patch size; needs a C++ compiler",
    )
    fit.add_argument("--validate-every", type=int, default=500, metavar="STEPS")


def _add_average(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    averaging = commands.add_parser("average", help="average two weights of one network, as of two fine-tuning runs")
    averaging.set_defaults(run=_average)
    averaging.add_argument("first", type=Path)
    averaging.add_argument("second", type=Path)
    averaging.add_argument("--share", type=float, default=0.5, help="share of the first weights, from 0 to 1")
    averaging.add_argument("--variant", choices=sorted(VARIANTS), default="promptnaf")
    averaging.add_argument("--output", type=Path, required=True, help="safetensors file of the average")


def _add_calibrate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    calibrating = commands.add_parser("calibrate", help="fit the degradation head to the features of trained weights")
    calibrating.set_defaults(run=_calibrate)
    calibrating.add_argument("weights", type=Path)
    calibrating.add_argument("photos", type=Path, nargs="+", help="the folders that the weights were trained on")
    calibrating.add_argument("--variant", choices=sorted(VARIANTS), default="promptnaf")
    calibrating.add_argument("--output", type=Path, required=True, help="safetensors file of the calibrated weights")
    calibrating.add_argument("--examples", type=int, default=14000, help="number of pictures to fit to")
    calibrating.add_argument("--seed", type=int, default=0)
    shifts = "raise the log-odds of labels that real photos show less clearly"
    calibrating.add_argument("--log-odds", type=_log_odds, nargs="+", default=[], metavar="LABEL=SHIFT", help=shifts)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    evaluate = commands.add_parser("evaluate", help="measure PSNR and SSIM of weights")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("weights", type=Path)
    evaluate.add_argument("--variant", choices=sorted(VARIANTS), default="promptnaf")
    evaluate.add_argument("--clean", type=Path, nargs="*", default=[], help="folders of clean images to degrade")
    evaluate.add_argument("--pairs", type=Path, nargs="*", default=[], help="folders with input/ and target/")
    evaluate.add_argument("--classical", action="store_true", help="also measure OpenCV's fastNlMeans")
    evaluate.add_argument("--flat", action="store_true", help="also measure the largest error on flat fields")
    evaluate.add_argument("--real", type=Path, nargs="*", default=[], help="folders of photos for a contact sheet")
    evaluate.add_argument("--sheet", type=Path, default=Path("contact-sheet.jpg"), help="file of the contact sheet")
    evaluate.add_argument(
        "--labels", type=Path, nargs="*", default=[], help="folders of photos to measure degradation detection on"
    )
    evaluate.add_argument("--json", type=Path, help="also write the results to this file")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def _stage(text: str) -> Stage:
    try:
        until, _, size = text.partition(":")
        patch, batch = size.split("x")
        return Stage(float(until), int(patch), int(batch))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UNTIL:PATCHxBATCH, for example 0.5:64x8") from None


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER, for example haze=0.2") from None


def _log_odds(text: str) -> tuple[str, float]:
    label, shift = _share(text)
    if label not in LABELS:
        raise argparse.ArgumentTypeError(f"{label!r} is not a label; labels: {', '.join(LABELS)}")
    return label, shift


def _bf16_is_fast() -> bool:
    """Return whether the GPU, or the CPU through AMX or AVX-512, has fast bfloat16 products."""
    return torch.cuda.is_available() or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _fit(options: argparse.Namespace) -> int:
    training, held_out = _split(options.photos)
    photos = [_checked(path) for path in training]
    if options.threads:
        torch.set_num_threads(options.threads)
    schedule = Schedule(
        steps=options.steps,
        minutes=options.minutes,
        stages=tuple(options.stages),
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        ema_decay=options.ema_decay,
        head_weight=options.head_weight,
        mix=Mix.adjusted(dict(options.mix)),
        seed=options.seed,
    )
    config = variant(options.variant)
    dataset = PatchDataset(photos, options.seed, schedule.mix)
    validated = held_out[:: max(1, len(held_out) // VALIDATION_PHOTOS)][:VALIDATION_PHOTOS]
    sets = validation_set([read_photo(path) for path in validated], VALIDATION_PATCH, options.seed)
    trainer = Trainer(config, schedule, dataset, options.device, options.precision == "bf16", options.compile)
    if (options.output / CHECKPOINT_FILE).exists():
        trainer.resume(options.output)
        print(f"resuming {options.output} at step {trainer.step}", file=sys.stderr)
    elif options.init:
        trainer.start_from(load_weights(options.init, variant(variant_of(options.init))).state_dict)
    _run(trainer, sets, options.output, options.validate_every, options.until)
    return 0


def _split(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split photos into training and held-out ones."""
    paths = [path for folder in folders for path in photo_paths(folder)]
    held_out = paths[VALIDATION_PHOTO_EVERY // 2 :: VALIDATION_PHOTO_EVERY]
    return [path for path in paths if path not in held_out], held_out


def _held_out(folders: Sequence[Path]) -> list[Photo]:
    """Return centre crops of the held-out photos at half size."""
    return [middle(read_photo(path), LABEL_CROP) for path in _split(folders)[1]]


def _checked(path: Path) -> Photo:
    photo = read_photo(path)
    if picture := near_duplicate(perceptual_hash(photo), EVALUATION_PICTURES):
        raise DatasetError(f"{path} is a near-duplicate of the evaluation picture {picture}: remove it")
    return photo


def _average(options: argparse.Namespace) -> int:
    if not 0.0 <= options.share <= 1.0:
        raise ValueError(f"--share must be from 0 to 1, got {options.share:g}")
    first, second = (
        load_weights(path, variant(options.variant)).state_dict for path in (options.first, options.second)
    )
    save_file({name: torch.lerp(second[name], first[name], options.share) for name in first}, options.output)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    network = load_network(options.weights, variant(options.variant))
    photos = [_checked(path) for path in _split(options.photos)[0]]
    scenes = [middle(photo, LABEL_CROP) for photo in photos if min(photo.shape[:2]) >= 2 * LABEL_CROP]
    with tqdm(total=options.examples, unit="pictures") as bar:
        examples = draw_examples(network, photos, scenes, options.examples, options.seed, bar.update)
    fit_head(network, examples, options.seed)
    raise_log_odds(network, dict(options.log_odds))
    save_file({name: w.contiguous() for name, w in network.state_dict().items()}, options.output)
    found = label_accuracy(network, _held_out(options.photos), options.seed)
    print(f"held-out photos: {found.mean:.1%} classified correctly; calibration error {found.calibration_error:.3f}")
    return 0


def _run(trainer: Trainer, sets: ValidationSets, output: Path, validate_every: int, until: int | None) -> None:
    with tqdm(total=100, initial=round(100 * trainer.done, 2), unit="%", bar_format=BAR_FORMAT) as bar:

        def on_step(progress: Progress) -> None:
            bar.n = round(100 * progress.done, 2)
            rate = f"{progress.patches_per_second:.0f} patches/s lr {progress.learning_rate:.1e}"
            bar.set_postfix_str(f"step {progress.step} loss {progress.loss:.4f} {rate}", refresh=False)
            bar.update(0)
            if progress.step % validate_every and progress.done < 1.0 and progress.step != until:
                return
            scores = trainer.validate(sets)
            bar.write(f"step {progress.step}: " + "  ".join(f"{kind} {psnr:.2f}" for kind, psnr in scores.items()))
            trainer.save(output)
            save_file({name: w.contiguous() for name, w in trainer.ema.state_dict().items()}, output / WEIGHTS_FILE)
            record = {
                "step": progress.step,
                "patches": progress.patches,
                "minutes": round(trainer.seconds / 60, 1),
                "loss": progress.loss,
                "psnr": scores,
            }
            with (output / HISTORY_FILE).open("a", encoding="utf-8") as history:
                history.write(json.dumps(record) + "\n")

        trainer.fit(on_step, until)


def _evaluate(options: argparse.Namespace) -> int:
    if not (options.clean or options.pairs or options.real or options.flat or options.labels):
        raise DatasetError("nothing to evaluate: give folders with --clean, --pairs, --real or --labels, or --flat")
    network = load_network(options.weights, variant(options.variant)).to(options.device)
    rows = [
        row
        for folder in options.clean
        for row in evaluate_clean(network, folder, options.seed, classical=options.classical)
    ]
    rows += [evaluate_pairs(network, folder) for folder in options.pairs]
    if rows:
        print(format_table(rows))
    if options.flat:
        print(f"flat fields: at most {worst_flat_error(network):.2f} levels of 255 off")
    if options.labels:
        found = label_accuracy(network, _held_out(options.labels), options.seed)
        print("\n".join(f"{case}: {share:.1%} classified correctly" for case, share in found.by_case.items()))
        print(f"all: {found.mean:.1%}; expected calibration error {found.calibration_error:.3f}")
    if options.real:
        print(f"{options.sheet}: {contact_sheet(network, options.real, options.sheet)} photos")
    if options.json:
        options.json.write_text(json.dumps([row.as_dict() for row in rows], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
