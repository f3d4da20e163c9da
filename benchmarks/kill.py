"""Kill training runs at random moments, resume them, and compare the result with that of a run that was left alone.

    python3 benchmarks/kill.py
    python3 benchmarks/kill.py --kills 8 --seed 3

A killed run must end with bit-equal weights and optimizer state, and leave no unfinished file. The runs are short:
three epochs on drawn shapes of 64x64 pixels, evaluated after each epoch and saved after each step.
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
EARLY = 0.15  # share of the kills before the run has printed where it writes
START_SECONDS = 5


def build_parser():
    parser = cli.parser("Kill training runs and resume them.", ["python3 benchmarks/kill.py --kills 8 --seed 3"])
    parser.add_argument("--kills", type=cli.positive_int, default=50, metavar="N", help="kills over all settings")
    parser.add_argument("--seed", type=cli.natural_int, default=0, help="seed of the moments of the kills")
    return parser


def main(options):
    from tqdm import tqdm

    from utils.text import align_columns

    generator = random.Random(options.seed)
    rows, failed = [["settings", "kills", "runs", "equal", "problems"]], False
    with tempfile.TemporaryDirectory() as folder, tqdm(total=options.kills, unit="kill", disable=None) as bar:
        data = write_data(Path(folder))
        for number, (name, arguments) in enumerate(CASES.items()):
            kills = options.kills // len(CASES) + (number < options.kills % len(CASES))
            if kills:
                runs, problems = campaign(data, arguments, kills, generator, bar)
                failed |= bool(problems)
                rows.append([name, str(kills), str(runs), str(runs - len(problems)), "; ".join(problems) or "none"])
    print(f"seed {options.seed}")
    print(align_columns(rows, left=(0, 4)))
    return int(failed)


def write_data(folder):
    """Draw a small set of shapes and write a .data file; return its path."""
    from utils.dataset.shapes import make_shapes

    make_shapes(folder / "shapes", train=24, val=8)
    changes = {"width": 64, "height": 64, "epochs": 3, "batch_size": 4, "model_name": "small", "pre_weights": "scratch"}
    changes |= {"train": "shapes/train.txt", "val": "shapes/val.txt", "names": PROJECT / "data" / "shapes.names"}
    lines = (PROJECT / "data" / "shapes.data").read_text(encoding="utf-8").split("\n")
    keys = [line.partition("=")[0].strip() for line in lines]
    lines = [f"{key}={changes[key]}" if key in changes else line for key, line in zip(keys, lines, strict=True)]
    (folder / "small.data").write_text("\n".join(lines), encoding="utf-8")
    return folder / "small.data"


def campaign(data, arguments, kills, generator, bar):
    """Make runs with these arguments and kill them `kills` times; return (count of runs, their problems)."""
    whole = Path(tempfile.mkdtemp(dir=data.parent))
    started = time.monotonic()
    finish(start(whole, "--data", data, *arguments, "--save-interval", "0"))
    seconds = max(0.5, time.monotonic() - started - START_SECONDS)
    problems, runs = [], 0
    while kills:
        folder = Path(tempfile.mkdtemp(dir=data.parent))
        runs += 1
        while True:
            if any(path.stat().st_size for path in folder.glob("weights/*-last.pth")):
                process = start(folder, "--resume")
            else:  # also if the run was killed before its first checkpoint
                shutil.rmtree(folder)
                folder.mkdir()
                process = start(folder, "--data", data, *arguments, "--save-interval", "0")
            if kills and kill(process, generator, seconds):
                kills -= 1
                bar.update()
            else:
                finish(process)
                break
        problems += compare(whole, folder)
    return runs, problems


def start(folder, *arguments):
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


def finish(process):
    """Wait for a run to end.

    Raises:
        RunError: it fails.
    """
    from utils.errors import RunError

    output = process.communicate()[0]
    if process.returncode:
        raise RunError(f"train.py ended with status {process.returncode}: {output[-300:]}")


def compare(whole, folder):
    """Describe how the files of a killed run differ from those of a run that was left alone."""
    import torch

    problems = []
    names = {path.relative_to(whole) for path in whole.rglob("*") if not path.name.startswith("events")}
    found = {path.relative_to(folder) for path in folder.rglob("*") if not path.name.startswith("events")}
    if names != found:
        problems.append(f"other files: {', '.join(sorted(map(str, names ^ found)))}")
    for name in sorted(names & found):
        if name.suffix == ".pth":
            one, other = (torch.load(parent / name, weights_only=True) for parent in (whole, folder))
            if not is_equal(one, other):
                problems.append(f"{name} differs")
    return problems


def is_equal(one, other):
    """Compare all tensors in nested dicts and lists, bit for bit."""
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
