"""Train variants of the recipe on a panel of data sets, and write benchmarks/panel.md from their results.

    python3 benchmarks/panel.py run --sets data/mask.data data/helmet.data --variants default original --steps 1500
    python3 benchmarks/panel.py table

`run` trains each variant on each data set, for about the same number of steps. At the end of a training it adds AP50
and AP of the last epoch to benchmarks/results/panel.csv. Trainings that are in the file are skipped, so the command can
be interrupted and repeated. `table` compares the variants per data set and on average.
"""

import csv
import dataclasses
import itertools
import math
import statistics
import time
from collections import defaultdict
from pathlib import Path

from utils import cli

RESULTS = Path(__file__).resolve().parent / "results" / "panel.csv"
TABLE = RESULTS.parents[1] / "panel.md"
KEY = ("set", "steps", "variant", "seed")
COLUMNS = (*KEY, "epochs", "AP50", "AP", "start", "device", "torch")
IMAGENET = "modelzoo/backbone.pth"
CROSS_ENTROPY = {"focal_power": 0.0}  # objectness as the default had it before the quality focal loss
# {name: (recipe to start from, changed fields, weights to start from instead of the recipe's)}
VARIANTS = {
    "original": ("original", {}, None),
    "cross-entropy, from the ImageNet backbone, rate 0.006": (
        "default",
        CROSS_ENTROPY | {"rate_factor": 6.0},
        IMAGENET,
    ),
    "cross-entropy, from the ImageNet backbone": ("default", CROSS_ENTROPY, IMAGENET),
    "cross-entropy, from random weights": ("default", CROSS_ENTROPY, "scratch"),
    "cross-entropy, from helmet-352.pth": ("default", CROSS_ENTROPY, "modelzoo/helmet-352.pth"),
    "cross-entropy": ("default", CROSS_ENTROPY, None),
    "cross-entropy, rate 0.002": ("default", CROSS_ENTROPY | {"rate_factor": 2.0}, None),
    "cross-entropy, rate 0.0015": ("default", CROSS_ENTROPY | {"rate_factor": 1.5}, None),
    "default": ("default", {}, None),
    "from the ImageNet backbone": ("default", {}, IMAGENET),
    "no zoom": ("default", {"augmentation": "flip_colour"}, None),
}

HEAD = """# Recipes on a panel of data sets

`python3 benchmarks/panel.py table` writes this file from `benchmarks/results/panel.csv`. The weights of the last epoch
are evaluated on the val list with pycocotools (confidence 0.01, NMS 0.4): AP50 / AP. A variant that was trained several
times on a data set, with different seeds or on different devices, has the mean. "default" starts from the released COCO
detector and has the learning rate 0.003. "cross-entropy" is the
default before objectness got the quality focal loss. Variants that `panel.py` does not list changed code that was not
kept.

The images were stored at 352x352 pixels (neu: 200x200) as WebP with quality 52. Train and val images: clothes 960 and
240, 13 classes; helmet 1,868 and 467, 2 classes; lemons 212 and 62, 1 class; mask 610 and 152, 2 classes; neu 1,416 and
354, 6 classes; pcb 1,000 and 500, 6 classes; tiny is the first 40 images of mask."""


def build_parser():
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("task", choices=("run", "table"), help="train, or write the table")
    add("--sets", nargs="+", default=[], metavar="FILE", help=".data files of the data sets, for run")
    add("--variants", nargs="+", choices=VARIANTS, default=["default"], metavar="NAME", help="variants to train")
    add("--steps", type=cli.positive_int, default=1500, metavar="N", help="steps per training, rounded up to epochs")
    add("--seeds", type=cli.natural_int, nargs="+", default=[0], metavar="N", help="seeds of each training")
    add("--processes", type=cli.positive_int, default=1, metavar="N", help="trainings at the same time")
    add("--minutes", type=cli.positive_float, metavar="N", help="start no training after this many minutes")
    add("--threads", type=cli.positive_int, metavar="N", help="CPU threads per training (default: one per core)")
    add("--results", default=str(RESULTS), metavar="FILE", help="CSV file that gets a line per training")
    add("--output", default="runs/panel", metavar="DIR", help="folder for the runs and their logs")
    return parser


def main(options):
    if options.task == "table":
        return write_table(read_results(options.results))
    return train_all(options)


def train_all(options):
    """Run the trainings that are not in the results; return the exit status."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from tqdm import tqdm

    from utils.errors import InputError

    if not options.sets:
        raise InputError("--sets: expected .data files, for example data/mask.data, got nothing")
    done = {tuple(row[name] for name in KEY) for row in read_results(options.results)}
    jobs = [
        {"data": data, "variant": variant, "seed": seed, "steps": options.steps}
        for seed, variant, data in itertools.product(options.seeds, options.variants, options.sets)
    ]
    deadline = time.time() + options.minutes * 60 if options.minutes else math.inf
    failed = skipped = 0
    names = {data: model_name(data) for data in options.sets}
    jobs = [job for job in jobs if (names[job["data"]], *(str(job[name]) for name in KEY[1:])) not in done]
    # Spawned: forked processes cannot use CUDA or OpenMP if this one has used them.
    pool = ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn"))
    try:
        futures = {pool.submit(train, job, VARIANTS[job["variant"]], options, deadline): job for job in jobs}
        for future in (bar := tqdm(as_completed(futures), total=len(jobs), unit="training")):
            job = futures[future]
            try:
                row = future.result()
            except Exception as error:  # one training that fails must not end the others
                failed += 1
                bar.write(f"failed: {names[job['data']]}, {job['variant']}, seed {job['seed']}: {error}")
                continue
            if row is None:
                skipped += 1
                continue
            append_result(options.results, row)
            bar.write("{set:10} {variant}, seed {seed}: AP50 {AP50} AP {AP}".format(**row))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no other training starts
    rest = "".join(f", {count} {what}" for count, what in ((failed, "failed"), (skipped, "not started")) if count)
    print(f"wrote {options.results}: {len(jobs) - failed - skipped} trainings{rest}")
    return 1 if failed else 0


def model_name(data):
    from utils.config import read_config

    return read_config(data).model_name


_stopped = False  # whether a signal has stopped a training in this process; the pool may have queued another one


def train(job, variant, options, deadline):
    """Run one training; return its line of the results, or None after the deadline or a signal."""
    global _stopped
    if _stopped or time.time() > deadline:
        return None
    import contextlib
    import gc

    import torch

    from utils.training.run import Run

    settings = job_settings(job, variant, options)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{settings.config.model_name} {job['steps']} {job['variant']} {job['seed']}"
    with (
        (folder / f"{name}.log").open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            train_options = dataclasses.replace(settings.options, output=str(folder / name))
            run = Run(dataclasses.replace(settings, options=train_options))
            _stopped = run.train() != 0
        except KeyboardInterrupt:
            _stopped = True
        if _stopped:
            raise RuntimeError(f"stopped, see {log.name}")
    last = run.progress.history[-1]
    cuda = run.device.type == "cuda"
    row = {
        "set": settings.config.model_name,
        "epochs": settings.epochs,
        "AP50": f"{last['AP50']:.4f}",
        "AP": f"{last['AP']:.4f}",
        "start": Path(run.start.split(",")[0].split(";")[0]).name,
        "device": torch.cuda.get_device_name(run.device) if cuda else "cpu",
        "torch": torch.__version__,
        **{name: job[name] for name in KEY[1:]},
    }
    del run
    gc.collect()  # frees the memory of the GPU for the next training
    if cuda:
        torch.cuda.empty_cache()
    return row


def job_settings(job, variant, options):
    """Return the Settings of a training."""
    from utils.dataset.index import open_list
    from utils.training.plan import milestones
    from utils.training.settings import TrainOptions, read_settings

    recipe_name, changes, weights = variant
    given = {"data": job["data"], "seed": job["seed"], "recipe": recipe_name, "weights": weights}
    on_cpu = {"workers": 0, "cache": "ram"} if not has_gpu() else {}
    settings = read_settings(TrainOptions(**given, **on_cpu, threads=options.threads, epochs=1))
    images = len(open_list(settings.config, "train"))
    epochs = -(-job["steps"] // max(1, images // settings.batch_size))
    recipe = dataclasses.replace(settings.recipe, **changes)
    config = dataclasses.replace(settings.config, steps=milestones(epochs))
    return dataclasses.replace(
        settings,
        config=config,
        recipe=recipe,
        recipe_name=job["variant"],
        learning_rate=settings.config.learning_rate * recipe.rate_factor,
        ema=recipe.ema,
        epochs=epochs,
        eval_interval=epochs,
    )


def has_gpu():
    import torch

    return torch.cuda.is_available()


def read_results(path):
    """Return the lines of the results."""
    if not Path(path).exists():
        return []
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append_result(path, row):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def write_table(rows):
    """Write benchmarks/panel.md."""
    from utils.files import write_text

    lines = [HEAD]
    for steps, group in itertools.groupby(sorted(rows, key=lambda row: int(row["steps"])), lambda row: row["steps"]):
        lines += ["", f"## About {steps} steps", "", *table(list(group))]
    write_text(TABLE, "\n".join([*lines, ""]))
    print(f"wrote {TABLE}: {len(rows)} trainings")


def table(rows):
    """Return the lines of the table of one count of steps: AP50 / AP per variant and data set."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["variant"], row["set"]].append((float(row["AP50"]), float(row["AP"])))
    means = {key: tuple(map(statistics.mean, zip(*values, strict=True))) for key, values in cells.items()}
    sets = sorted({row["set"] for row in rows})
    found = {row["variant"] for row in rows}
    variants = [name for name in VARIANTS if name in found] + sorted(found - VARIANTS.keys())
    lines = [f"| recipe | trainings | {' | '.join(sets)} | mean |", f"| --- | --- |{' --- |' * (len(sets) + 1)}"]
    for variant in variants:
        row = [means.get((variant, name)) for name in sets]
        mean = [] if None in row else [tuple(map(statistics.mean, zip(*row, strict=True)))]
        counts = sorted({len(cells[variant, name]) for name in sets} - {0})
        texts = ["–" if cell is None else "{:.3f} / {:.3f}".format(*cell) for cell in [*row, *(mean or [None])]]
        lines.append(f"| {variant} | {' to '.join(map(str, counts[:1] + counts[1:][-1:]))} | {' | '.join(texts)} |")
    return lines


if __name__ == "__main__":
    cli.run(build_parser(), main)
