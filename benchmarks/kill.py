"""Kill training runs at random moments, resume them, and compare the result with that of an uninterrupted run.

    python3 benchmarks/kill.py
    python3 benchmarks/kill.py --kills 8 --seed 3

A killed run must end with the same tensors in its .pth files, bit for bit, and the same results.csv and file names, and
leave no unfinished file. The runs are short: three epochs on drawn shapes of 64x64 pixels, evaluated after each epoch
and saved after each step. A run that is killed before its first checkpoint is started anew, in empty folders weights/
and runs/.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli

PROJECT = Path(__file__).resolve().parents[1]
CASES = {
    "workers 0": ("--workers", "0"),
    "workers 2": ("--workers", "2"),
    "workers 2, cache in memory": ("--workers", "2", "--cache", "ram"),
    "workers 2, cache on disk": ("--workers", "2", "--cache", "disk"),
    "workers 0, cache on disk, EMA": ("--workers", "0", "--cache", "disk", "--ema"),
    "workers 2, EMA": ("--workers", "2", "--ema"),
    "workers 0, original recipe": ("--workers", "0", "--recipe", "original"),
    "workers 2, original recipe, EMA": ("--workers", "2", "--recipe", "original", "--ema"),
}
# One thread, so that sums are always in the same order.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
EARLY = 0.15  # share of the kills that happen before the run has printed its output folder
START_SECONDS = 5


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--kills", type=cli.positive_int, default=50, metavar="N", help="kills over all settings")
    parser.add_argument("--seed", type=cli.natural_int, default=0, help="seed of the moments of the kills")
    return parser


def main(options):
    from tqdm import tqdm

    from utils.text import align_columns

    generator = random.Random(options.seed)
    rows, failed = [["settings", "kills", "early", "runs", "equal", "problems"]], False
    with tempfile.TemporaryDirectory() as folder, tqdm(total=options.kills, unit="kill", disable=None) as bar:
        data = Path(folder, "data")
        write_data(data)
        for number, (name, arguments) in enumerate(CASES.items()):
            kills = options.kills // len(CASES) + (number < options.kills % len(CASES))
            if kills:
                early, runs = campaign(data, arguments, kills, generator, bar)
                problems = [f"run {index}: {problem}" for index, found in enumerate(runs, 1) for problem in found]
                failed |= bool(problems)
                counts = (kills, early, len(runs), runs.count([]))
                rows.append([name, *map(str, counts), "; ".join(problems) or "none"])
    print(f"seed {options.seed}")
    print(align_columns(rows, left=(0, 5)))
    return int(failed)


def write_data(folder):
    """Draw a small set of shapes and write a .data file, small.data."""
    from utils.dataset.shapes import make_shapes

    make_shapes(folder / "shapes", train=24, val=8)
    changes = {"width": 64, "height": 64, "epochs": 3, "batch_size": 4, "model_name": "small", "pre_weights": "scratch"}
    changes |= {"train": "shapes/train.txt", "val": "shapes/val.txt", "names": PROJECT / "data" / "shapes.names"}
    lines = (PROJECT / "data" / "shapes.data").read_text(encoding="utf-8").split("\n")
    keys = [line.partition("=")[0].strip() for line in lines]
    lines = [f"{key}={changes[key]}" if key in changes else line for key, line in zip(keys, lines, strict=True)]
    (folder / "small.data").write_text("\n".join(lines), encoding="utf-8")


def campaign(data, arguments, kills, generator, bar):
    """Make runs with these arguments and kill them `kills` times.

    Returns:
        How many kills came before the first checkpoint, and per run a list of its problems.
    """
    whole = new_folder(data)
    started = time.monotonic()
    problem = finish(start(whole, *arguments))
    if problem:
        bar.update(kills)
        return 0, [[problem]]
    seconds = max(0.5, time.monotonic() - started - START_SECONDS)
    early, runs = 0, []
    while kills:
        folder = new_folder(data)
        while True:
            resumed = any(path.stat().st_size for path in folder.glob("weights/*-last.pth"))
            if not resumed:  # start a new run; unfinished files of its cache stay, to see that they are removed
                for name in ("weights", "runs"):
                    shutil.rmtree(folder / name, ignore_errors=True)
            process = start(folder, *(["--resume"] if resumed else arguments))
            if not kills or not kill(process, generator, seconds):
                problem = finish(process)
                break
            kills -= 1
            bar.update()
            early += not any(path.stat().st_size for path in folder.glob("weights/*-last.pth"))
            age_unfinished(folder / "data" / "shapes")
        runs.append([problem] if problem else compare(whole, folder))
    return early, runs


def new_folder(data):
    """Create a folder for a run with its own copy of the data, so that it also writes the cache."""
    folder = Path(tempfile.mkdtemp(dir=data.parent))
    shutil.copytree(data, folder / "data", ignore=shutil.ignore_patterns("*.cache", "*.npy"))
    return folder


def start(folder, *arguments):
    if "--resume" not in arguments:
        arguments = ("--data", "data/small.data", "--save-interval", "0", *arguments)
    command = [sys.executable, PROJECT / "train.py", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), cwd=folder, env=ENVIRONMENT, **pipes)


def kill(process, generator, seconds):
    """Kill a run at a random moment; return False if it ends before that."""
    if generator.random() < EARLY:
        time.sleep(generator.uniform(0, START_SECONDS))
    else:
        for line in process.stdout:
            if line.startswith("output"):
                break
        time.sleep(generator.uniform(0, seconds))
    running = process.poll() is None
    if running:
        process.kill()
        process.communicate()
    return running


def age_unfinished(folder):
    """Set the time of unfinished caches to the past, because a run removes only old ones."""
    from utils.files import unfinished_files

    for path, _ in unfinished_files(folder):
        os.utime(path, (0, 0))


def finish(process):
    """Wait for a run to end; return what went wrong, or None."""
    output = process.communicate()[0]
    return f"status {process.returncode}: {output[-300:]}" if process.returncode else None


def compare(whole, folder):
    """Describe how the files of a killed run differ from those of an uninterrupted run."""
    import torch

    from utils.files import unfinished_files

    places = [path for path in folder.rglob("*") if path.is_dir()]
    problems = [f"{path} is left" for place in places for path, _ in unfinished_files(place)]
    names, found = files_of(whole), files_of(folder)
    if names != found:
        problems.append(f"other files: {', '.join(sorted(map(str, names ^ found)))}")
    for name in sorted(names & found):
        if name.suffix == ".pth":
            one, other = (torch.load(parent / name, weights_only=True) for parent in (whole, folder))
            if not is_equal(one, other):
                problems.append(f"{name} differs")
        elif name.suffix == ".csv" and without_times(whole / name) != without_times(folder / name):
            problems.append(f"{name} differs")
        elif not (folder / name).stat().st_size:
            problems.append(f"{name} is empty")
    return problems


def files_of(folder):
    """Return the paths in a run's folder, without the data and the files of TensorBoard, which differ per process."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {path for path in paths if path.parts[0] != "data" and not path.name.startswith("events")}


def without_times(path):
    """Return the rows of results.csv without the speed."""
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return [{key: text for key, text in row.items() if key != "images_per_second"} for row in csv.DictReader(file)]


def is_equal(one, other):
    """Compare all tensors in nested dicts and lists, bit for bit; other values may be paths and times."""
    import torch

    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return True


if __name__ == "__main__":
    cli.run(build_parser(), main)
