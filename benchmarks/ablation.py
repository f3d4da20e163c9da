"""Show the effect of each choice of the training recipe: write benchmarks/ablation.md from stored training runs.

    python3 benchmarks/ablation.py table
    python3 benchmarks/ablation.py time --data data/mask.data

`table` writes benchmarks/ablation.md from the args.json and results.csv of the runs in benchmarks/runs/. `time`
measures the steps of all variants in turn. benchmarks/panel.py trains new variants.
"""

import csv
import dataclasses
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

from utils import cli
from utils.training.recipe import RECIPES

RUNS = Path(__file__).resolve().parent / "runs"
STEPS = RUNS / "steps.json"
TABLE = RUNS.parent / "ablation.md"
METRICS = ("AP50", "AP", "original_AP", "F1")  # columns of results.csv
ROUNDS = 7  # each has one step of every variant


def fields_of(recipe, *names):
    """Return {name: value} of some fields of a recipe, for use in another one."""
    return {name: getattr(RECIPES[recipe], name) for name in names}


OPTIMIZER = ("optimizer", "rate_factor", "momentum", "weight_decay", "decay_all")
SCHEDULE = ("schedule", "warmup_epochs", "warmup_share", "warmup_power")
LOSS = ("loss", "box_weight", "objectness_weight", "class_weight", "scale_balance")
AUGMENTATION = ("augmentation", "last_augmentation", "last_share")
FLIP = {"augmentation": "flip_colour"}
SGD = fields_of("original", *OPTIMIZER)
FASTER = {"rate_factor": 6.0}  # the default until the rates were compared on clothes
# {name: (recipe to start from, changed fields)} of the stored runs; their args.json has the name.
VARIANTS = {
    "original": ("original", {}),
    "original, class loss / 16": ("original", {"class_weight": 2.0}),
    "original, objectness prior": ("original", {"objectness_prior": 0.02}),
    "original, flip and mild colour": ("original", FLIP | {"last_augmentation": "flip_colour"}),
    "original, flip, zoom and mild colour": ("original", fields_of("default", *AUGMENTATION)),
    "original, cosine": ("original", fields_of("default", *SCHEDULE)),
    "original, SGD at ten times the rate": ("original", {"rate_factor": 10.0}),
    "original, AdamW": ("original", fields_of("default", *OPTIMIZER)),
    "original, AdamW and cosine": ("original", fields_of("default", *OPTIMIZER, *SCHEDULE)),
    "original, assignment by cost": ("original", fields_of("default", *LOSS)),
    "rate 0.006": ("default", FASTER),
    "default": ("default", {}),
    "rate 0.001": ("default", {"rate_factor": 1.0}),
    "rate 0.002": ("default", {"rate_factor": 2.0}),
    "rate 0.006, four times the class loss": ("default", FASTER | {"class_weight": 2.0}),
    "rate 0.012": ("default", {"rate_factor": 12.0}),
    "rate 0.006, gradients of any length": ("default", FASTER | {"clip_norm": None}),
    "rate 0.006, average of weights": ("default", FASTER | {"ema": True}),
    "rate 0.006, the original's augmentation": ("default", FASTER | fields_of("original", *AUGMENTATION)),
    "rate 0.006, no zoom": ("default", FASTER | FLIP),
    "rate 0.006, zoom to the end": ("default", FASTER | {"last_share": 0}),
    "rate 0.006, no objectness prior": ("default", FASTER | {"objectness_prior": None}),
    "rate 0.006, warm-up and steps of the original": ("default", FASTER | fields_of("original", *SCHEDULE)),
    "rate 0.006, assignment by ratio": ("default", FASTER | fields_of("original", *LOSS) | {"class_weight": 4.0}),
    "SGD": ("default", SGD),
    "SGD at ten times the rate": ("default", SGD | {"rate_factor": 10.0}),
}

HEAD = """# The training recipe, one choice at a time

`python3 benchmarks/ablation.py table` writes this file from the files in `benchmarks/runs/`. The weights of the last
epoch are evaluated on the val list with pycocotools (confidence 0.01, NMS 0.4) and with the original's definition.
Several seeds are given as mean (lowest to highest). coco128fit is the first 128 images of COCO val2017, evaluated on
the images it was trained on: it only shows how fast 80 classes are learned. The column "step" is the time for forward
pass, loss, backward pass and update of one batch, as a ratio to the original recipe (median of steps; the variants run
in turns).

"default" has the learning rate 0.003. It was 0.006 when the choices were tried one at a time: those variants are called
"rate 0.006, …".

All were trained with the binary cross-entropy for objectness, before the default got the quality focal loss.

Names of variants: "average of weights" is an EMA of the weights, "assignment by cost" is SimOTA with its loss,
"assignment by ratio" matches boxes to anchors by the ratio of their sides."""


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("task", choices=("table", "time"), help="write the table, or time the steps of all variants")
    parser.add_argument("--data", metavar="FILE", help=".data file with the images of the steps, for time")
    return parser


def main(options):
    from utils.errors import InputError

    if options.task == "table":
        return write_table()
    if not options.data:
        raise InputError("--data: expected a .data file, for example data/mask.data, got nothing")
    return time_variants(options.data)


def variant_settings(data, variant):
    """Return the settings of a variant."""
    from utils.training.settings import TrainOptions, read_settings

    start, changes = VARIANTS[variant]
    settings = read_settings(TrainOptions(data=data, recipe=start))
    # The stored runs were made before the quality focal loss.
    recipe = dataclasses.replace(settings.recipe, **{"focal_power": 0.0, **changes})
    rate = settings.config.learning_rate * recipe.rate_factor
    return dataclasses.replace(settings, recipe=recipe, learning_rate=rate, ema=recipe.ema)


def time_variants(data):
    """Write the median milliseconds per step of every variant, measured in turn, to runs/steps.json."""
    import torch

    from model.detector import Detector
    from utils.provenance import versions
    from utils.runtimes.device import select_device
    from utils.training.data import load_data
    from utils.training.engine import train_step
    from utils.training.state import build_state

    states = {}
    for variant in VARIANTS:
        settings = variant_settings(data, variant)
        device = select_device(settings.options.device)
        torch.manual_seed(0)
        states[variant] = build_state(Detector(settings.config.classes, settings.config.anchor_num), settings, device)
        states[variant].model.train()
    # All variants get the same images: reading and augmentation run in other processes and are not timed.
    parts = [next(iter(load_data(settings, device).train_loader))]
    seconds = defaultdict(list)
    for _ in range(ROUNDS + 2):
        for variant, state in states.items():
            started = time.perf_counter()
            train_step(state, parts, len(parts[0][0]))
            seconds[variant].append(time.perf_counter() - started)
    medians = {variant: round(statistics.median(values[2:]) * 1000, 1) for variant, values in seconds.items()}
    RUNS.mkdir(exist_ok=True)
    STEPS.write_text(json.dumps({"milliseconds": medians, "versions": versions()}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {STEPS}")


def write_table():
    """Write benchmarks/ablation.md."""
    from utils.files import write_text

    runs = [read_run(path.parent) for path in sorted(RUNS.glob("*/results.csv"))]
    steps = json.loads(STEPS.read_text(encoding="utf-8"))["milliseconds"] if STEPS.exists() else {}
    groups = defaultdict(lambda: defaultdict(list))
    for run in runs:
        groups[run["set"], run["epochs"], run["start"]][run["variant"]].append(run)
    lines = [HEAD]
    for (name, epochs, start), variants in sorted(groups.items(), key=str):
        lines += ["", f"## {name}, {epochs} epochs from {start}", ""]
        lines += [
            "| recipe | seeds | AP50 | AP | original's AP | F1 | step |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        order = [variant for variant in VARIANTS if variant in variants]
        for variant in order + sorted(set(variants) - set(order)):
            lines.append(table_row(variant, variants[variant], steps))
    versions = sorted({f"torch {run['torch']}, {run['platform']}" for run in runs})
    lines += ["", f"Versions: {'; '.join(versions)}.", ""]
    write_text(TABLE, "\n".join(lines))
    print(f"wrote {TABLE}: {len(runs)} runs")


def read_run(folder):
    """Return the values of one run for the table."""
    arguments = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    settings = arguments["settings"]
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {
        "set": settings["model_name"],
        "epochs": settings["epochs"],
        "variant": settings["recipe_name"],
        "seed": settings["seed"],
        "start": Path(settings["weights"] or settings.get("recipe.start", ["backbone.pth"])[0]).name,
        "torch": arguments["versions"]["torch"],
        "platform": arguments["versions"]["platform"],
        **{metric: float(last[metric]) for metric in METRICS},
    }


def table_row(variant, runs, steps):
    def cell(name):
        values = [run[name] for run in runs]
        spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
        return f"{statistics.mean(values):.4f}{spread}"

    seeds = ", ".join(str(run["seed"]) for run in sorted(runs, key=lambda run: run["seed"]))
    ratio = f"{steps[variant] / steps['original']:.2f}" if variant in steps else ""
    metrics = " | ".join(map(cell, METRICS))
    return f"| {variant} | {seeds} | {metrics} | {ratio} |"


if __name__ == "__main__":
    cli.run(build_parser(), main)
