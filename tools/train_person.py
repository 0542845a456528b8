"""Trains, measures and ships person detectors, from person128 and seeds.

The float detector to start from, person_96.onnx, and its model card:

    d=../shared/data  o=sdk/gossamer/person/models  b=build/person
    python tools/train_person.py teachers --models $d/models -o $b/teachers.npz
    python tools/train_person.py fit --data $d/person128 --teachers $b/teachers.npz -o $b/run
    python tools/train_person.py ship --data $d/person128 --run $b/run -o $o
    python tools/train_person.py measure --data $d/person128 -o $o

The study of sparsity and the bundles that ship: ``fit`` dense networks, ``starts`` names them (and rearranges their
channels), ``fit`` sparse ones from them, ``collect`` brings all to their operating points, ``quantize`` trains some
under the device's quantisation and ``agree`` compares those with their bundles, ``tools.person_records`` measures,
``bundles`` chooses, packs, signs and describes. The cards in person/models hold the commands with their options.

``fit`` and ``quantize`` go on where they were interrupted. ``fit`` reads train and val only, choices are made on val.
Everything runs on a CPU too, slowly.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

from gossamer._errors import GossamerError, InputError

TEACHERS = {
    "mlperf-tiny-vww-96": "mlperf-tiny/vww_96_float.tflite",
    "wake-vision-mcunet-320kb": "wake-vision-zoo/wv_quality_mcunet-320kb-1mb_vww.tflite",
    "wake-vision-micronets-vww4": "wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8.tflite",
}
"""The teachers, chosen on train: the fourth candidate (mobilenetv2) added nothing to these three."""


def teachers(options: argparse.Namespace) -> None:
    """Extract the third-party detectors into one file that needs no TFLite."""
    from gossamer.person.teachers import save_teachers

    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_teachers({name: options.models / path for name, path in TEACHERS.items()}, options.output)
    print(f"{options.output}: {', '.join(TEACHERS)}")


def fit(options: argparse.Namespace) -> None:
    """Train the candidates; write their weights and run.json."""
    from gossamer.person.augment import Augmentation
    from gossamer.person.dataset import PersonDataset
    from gossamer.person.fitting import fit as fit_folder
    from gossamer.person.teachers import load_teachers
    from gossamer.person.training import TrainSettings, initial_digests

    chosen = {f.name: getattr(options, f.name) for f in fields(TrainSettings) if hasattr(options, f.name)}
    augmentation = {f.name: getattr(options, f.name) for f in fields(Augmentation) if hasattr(options, f.name)}
    if options.init is not None:
        chosen["initial"] = initial_digests(options.candidates or (), options.init)
    settings = TrainSettings(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items() if v is not None},
        augmentation=replace(Augmentation(), **{k: v for k, v in augmentation.items() if v is not None}),
    )
    record = fit_folder(
        PersonDataset(options.data),
        settings,
        options.output,
        teachers=load_teachers(options.teachers) if options.teachers else [],
        initial=options.init,
        device=options.device,
        seconds=options.seconds,
        save_every=options.save_every,
        stop_after=options.stop_after,
        train_limit=options.train_limit,
        val_limit=options.val_limit,
        log=lambda line: print(line, flush=True),
    )
    for name, report in record["val"].items():
        r = report["all"]
        print(f"{name}: val balanced accuracy {r['balanced_accuracy']['value']:.4f}, AUC {r['roc_auc']:.4f}")


def collect(options: argparse.Namespace) -> None:
    """Bring the networks of runs to their operating points, prune the dense ones in one shot, write the manifest."""
    from gossamer.person.collect import collect as gather
    from gossamer.person.dataset import PersonDataset

    made = gather(
        PersonDataset(options.data), options.start, options.run, options.output, one_shot_of=options.one_shot_of
    )
    print(f"{len(made)} networks in {options.output}")


def quantize(options: argparse.Namespace) -> None:
    """Fine-tune collected networks under the quantisation of the device."""
    from gossamer.person.collect import quantize_collected
    from gossamer.person.dataset import PersonDataset
    from gossamer.person.quantized import QuantizeSettings
    from gossamer.person.teachers import load_teachers

    settings = QuantizeSettings(
        steps=options.steps, batch=options.batch, learning_rate=options.learning_rate, views=options.views,
        own=options.own, scales=options.scales, rebalance=not options.no_rebalance,
    )  # fmt: skip
    marks = load_teachers(options.teachers) if options.teachers else []
    made = quantize_collected(
        PersonDataset(options.data), options.networks, options.output, options.only, settings, teachers=marks
    )
    print(f"{len(made)} networks in {options.output}")


def starts(options: argparse.Namespace) -> None:
    """Give the dense networks of runs the names that ``from:`` takes, and rearrange their channels."""
    from gossamer.person.collect import write_starts
    from gossamer.recipe import SparsifyStep

    step = SparsifyStep(pattern="1x4", sparsity=options.rearrange) if options.rearrange else None
    print(" ".join(write_starts(options.run, options.output, step)))


def agree(options: argparse.Namespace) -> None:
    """Compare each quantisation-aware model in torch with its bundle on every test photo; exit 1 where they differ."""
    from gossamer.person.agreement import agreement
    from gossamer.person.dataset import PersonDataset

    people, differ = PersonDataset(options.data), 0
    for path in sorted(options.networks.glob("*.qdq.onnx")):
        found = agreement(path.read_bytes(), people)
        differ += found.decisions < found.photos
        print(
            f"{path.name}: same decision on {found.decisions} of {found.photos} test photos, same bits on {found.bits}",
            flush=True,
        )
    if differ:
        sys.exit(1)


def bundles(options: argparse.Namespace) -> None:
    """Choose, pack and sign the bundles that ship, with their cards."""
    from gossamer.person.shipping import ship_bundles

    made = ship_bundles(
        options.data, options.records, options.runs, options.output, options.key, network=options.network
    )
    for entry in made:
        print(f"{entry['name']}: {entry['description']}; test {entry['balanced_accuracy']['value']:.4f}")


def ship(options: argparse.Namespace) -> None:
    """Export the candidate that is best on val, read test once, write ONNX, JSON card and Markdown card."""
    from gossamer.person.card import ship_run

    card = ship_run(options.data, options.run, options.output, candidate=options.candidate)
    print(f"{card['candidate']}: {card['bytes']} bytes, {json.dumps(card['test']['all'])}")


def measure(options: argparse.Namespace) -> None:
    """Pack the shipped model with ready-made recipes, measure the bundles on test, add them to the card."""
    from gossamer.person.card import write_card
    from gossamer.person.card_bundles import measured

    card = json.loads((options.output / "person_96.json").read_text(encoding="utf-8"))
    card["bundles"] = measured(options.data, options.output / "person_96.onnx", options.recipes)
    write_card(card, options.output)
    for entry in card["bundles"]:
        print(f"{entry['title']}: {json.dumps(entry['test']['all'])}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    part = commands.add_parser("teachers", help="extract third-party detectors into one file")
    part.add_argument("--models", type=Path, required=True, help="folder with mlperf-tiny/ and wake-vision-zoo/")
    part.add_argument("-o", "--output", type=Path, required=True)
    part.set_defaults(run_command=teachers)

    part = commands.add_parser("fit", help="train candidates side by side")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--teachers", type=Path, help="file written by the teachers command; none: labels alone")
    part.add_argument("-o", "--output", type=Path, required=True, help="folder for state, weights and run.json")
    part.add_argument("--device", help="cpu or cuda; default: cuda when there is one")
    part.add_argument(
        "--candidates",
        nargs="+",
        help="networks with options, such as v1-0.75 v1-0.75+granet:1x4:0.9+seed:1+from:NAME+without:SOURCE+labels",
    )
    part.add_argument(
        "--init", type=Path, help="folder of an earlier fit: where candidates with +from:NAME find NAME.pt"
    )
    part.add_argument("--seconds", type=float, help="let the schedule follow the clock instead of the epochs")
    for name in ("bank", "epochs", "batch", "warmup", "seed"):
        part.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in (
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "distill",
        "hint",
        "dropout",
        "ema_decay",
    ):
        part.add_argument(f"--{name.replace('_', '-')}", type=float)
    for name in ("min_area", "colour", "mix", "erase"):
        part.add_argument(f"--{name.replace('_', '-')}", type=float)
    part.add_argument("--save-every", type=int, default=5, help="epochs between two states")
    part.add_argument("--stop-after", type=int, help="leave after this many epochs in all; continue later")
    part.add_argument("--train-limit", type=int, help="use only so many training photos (trial runs)")
    part.add_argument("--val-limit", type=int, help="use only so many val photos (trial runs)")
    part.set_defaults(run_command=fit)

    part = commands.add_parser("starts", help="name the dense networks of runs for +from:NAME")
    part.add_argument("--run", type=Path, nargs="+", required=True, help="folders written by fit")
    part.add_argument("--rearrange", type=float, help="also with channels rearranged for this share of zeros in 1x4")
    part.add_argument("-o", "--output", type=Path, required=True, help="folder for --init")
    part.set_defaults(run_command=starts)

    part = commands.add_parser("collect", help="networks of runs at their operating points, with a manifest")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--start", type=Path, nargs="*", default=[], help="runs whose networks others start from")
    part.add_argument("--run", type=Path, nargs="+", required=True, help="folders written by fit")
    part.add_argument("--one-shot-of", nargs="*", default=[], help="dense networks to prune in one shot, too")
    part.add_argument("-o", "--output", type=Path, required=True)
    part.set_defaults(run_command=collect)

    part = commands.add_parser("quantize", help="quantisation-aware fine-tuning of collected networks")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--networks", type=Path, required=True, help="folder written by collect")
    part.add_argument("--only", nargs="+", required=True, help="names or globs, such as 'v1-0.75-granet-1x4-0.9-s*'")
    part.add_argument("--teachers", type=Path, help="file written by the teachers command")
    part.add_argument("--steps", type=int, default=100)
    part.add_argument("--batch", type=int, default=32)
    part.add_argument("--views", type=int, default=4096)
    part.add_argument("--learning-rate", type=float, default=2e-5)
    part.add_argument("--own", type=float, default=1.0, help="share of the float network in the target, 0..1")
    part.add_argument("--scales", choices=["fixed", "learned", "observed"], default="observed")
    part.add_argument("--no-rebalance", action="store_true", help="leave the decision where the float network has it")
    part.add_argument("-o", "--output", type=Path, required=True)
    part.set_defaults(run_command=quantize)

    part = commands.add_parser("agree", help="compare models of the quantize command in torch with their bundles")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--networks", type=Path, required=True, help="folder written by quantize")
    part.set_defaults(run_command=agree)

    part = commands.add_parser("bundles", help="choose, pack and sign the bundles that ship, with their cards")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--records", type=Path, required=True, help="folder written by tools.person_records")
    part.add_argument("--runs", type=Path, required=True, help="the folder it read")
    part.add_argument("--key", required=True, help="private key, by name or path")
    part.add_argument("--network", help="take only networks of this name, such as v1-0.75")
    part.add_argument("-o", "--output", type=Path, required=True, help="folder of the shipped files")
    part.set_defaults(run_command=bundles)

    part = commands.add_parser("ship", help="choose by val, measure on test, write ONNX and model card")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument("--run", type=Path, nargs="+", required=True, help="folders written by fit")
    part.add_argument("--candidate", help="take this one instead of the best on val")
    part.add_argument("-o", "--output", type=Path, required=True, help="folder of the shipped files")
    part.set_defaults(run_command=ship)

    part = commands.add_parser("measure", help="pack the shipped model, measure the bundles, add them to the card")
    part.add_argument("--data", type=Path, required=True, help="folder of person128")
    part.add_argument(
        "--recipes", nargs="+", default=["dense-int8", "person-demo", "1x4-75-int8"], help="names of recipes"
    )
    part.add_argument("-o", "--output", type=Path, required=True, help="folder of the shipped files")
    part.set_defaults(run_command=measure)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, the error's own exit code otherwise."""
    options = _parser().parse_args(arguments)
    try:
        options.run_command(options)
    except GossamerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except FileNotFoundError as error:
        print(f"error: {error.filename}: no such file", file=sys.stderr)
        return InputError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
