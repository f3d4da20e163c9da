"""Measure training on a GPU: steps alone, steps with their data, the GPU's busy share and its memory.

    python3 benchmarks/gpu.py --data data/mask.data --batch-size 32 64 128 --output gpu.json

    python3 benchmarks/gpu.py --data data/mask.data --runs 3 --batch-size

"Step alone" repeats one batch that is already on the device. The busy share is the time in which a kernel runs, divided
by the time of the steps, both measured with data loading. `--runs` trains from start to finish as a user does, with and
without mixed precision. It prints the seconds of the whole run with evaluation and plots, the images/s of the training
steps, and AP50 and AP after the last epoch.
"""

import csv
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
PROFILED = 10  # steps whose kernels are recorded; sorting their events takes the profiler a second per step
WARM_UP = 8  # steps; the first ones choose algorithms, and record and check the CUDA graph
FORMS = {
    "no graph": {"graph": False},
    "graph": {},
    "no graph, amp": {"graph": False, "amp": True},
    "graph, amp": {"amp": True},
}


def build_parser():
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help=".data file to train on")
    add("--batch-size", type=cli.positive_int, nargs="*", default=[32, 64, 128], metavar="N", help="images per step")
    add("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="kinds of steps to measure")
    add("--runs", type=cli.natural_int, default=0, metavar="N", help="runs of train.py to measure, with seeds 0, 1, …")
    add("--epochs", type=cli.positive_int, metavar="N", help="epochs of these runs (default: from the .data file)")
    add("--cache", choices=("gpu", "ram", "disk", "none"), help="as in train.py")
    add("--workers", type=cli.worker_count, metavar="N", help="as in train.py")
    add("--device", default="cuda", help="device: cuda, cuda:1, … or cpu to try the script")
    add("--steps", type=cli.positive_int, default=40, metavar="N", help="steps per measurement")
    add("--repeats", type=cli.positive_int, default=5, metavar="N", help="measurements; their median is printed")
    add("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    from result_file import write_results

    from utils.runtimes.device import describe_device, select_device

    device = select_device(options.device)
    rows = []
    print(f"{describe_device(device)}, {options.steps} steps, median of {options.repeats}")
    for batch_size, form in itertools.product(options.batch_size, options.forms):
        row = {"batch": batch_size, "form": form, **measure(options, batch_size, FORMS[form], device)}
        rows.append(row)
        print_row(row)
    runs = []
    for extra, seed in itertools.product(((), ("--amp",)), range(options.runs)):
        runs.append({"options": " ".join(extra), "seed": seed, **train(options, seed, extra)})
        print_row(runs[-1])
    if options.output:
        content = {"device": describe_device(device), "data": options.data, "rows": rows, "runs": runs}
        write_results(options.output, content)


def print_row(row):
    texts = (f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    print("  ".join(texts), flush=True)


def train(options, seed, extra):
    """Run train.py in a temporary folder; return {name: value} of the whole run."""
    command = [sys.executable, TRAIN, "--data", Path(options.data).resolve(), "--seed", seed, *extra]
    for name in ("device", "epochs", "cache", "workers"):
        value = getattr(options, name)
        command += [] if value is None else [f"--{name}", value]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        (path,) = Path(folder).glob("runs/train/*/results.csv")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    speed = statistics.median(float(row["images_per_second"]) for row in rows)
    return {
        "seconds": seconds,
        "training, images/s": speed,
        "AP50": float(rows[-1]["AP50"]),
        "AP": float(rows[-1]["AP"]),
    }


def measure(options, batch_size, form, device):
    """Return {name: value} of one batch size and form of step."""
    import torch
    from train_throughput import new_detector, now

    from utils.training.data import load_data
    from utils.training.graph import build_step
    from utils.training.settings import TrainOptions, read_settings
    from utils.training.state import build_state

    given = {"batch_size": batch_size, "cache": options.cache, "workers": options.workers, "device": options.device}
    settings = read_settings(TrainOptions(data=options.data, **given, **form))
    data = load_data(settings, device)
    state = build_state(new_detector(settings.config), settings, device)
    state.model.train()
    steps = Steps(state, build_step(state, settings, data.batches.batch_size), data)
    cuda = device.type == "cuda"
    stored = torch.cuda.memory_allocated(device) if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    started = now(device)
    steps.run(WARM_UP)
    first = now(device) - started
    parts = [(images.to(device), targets.to(device)) for images, targets in next(steps.batches)]
    alone, loaded = [], []
    for _ in range(options.repeats):
        alone.append(steps.rate(options.steps, itertools.repeat(parts)))
        loaded.append(steps.rate(options.steps))
    return {
        "cache": data.cache,
        "step alone, images/s": statistics.median(alone),
        "with data, images/s": statistics.median(loaded),
        "busy": busy_share(steps, PROFILED) if cuda else 0.0,
        "first steps, s": first,
        "peak memory without the images, GiB": (torch.cuda.max_memory_allocated(device) - stored) / 2**30
        if cuda
        else 0.0,
    }


class Steps:
    """Training steps on an endless sequence of batches."""

    def __init__(self, state, make_step, data):
        from train_throughput import endless

        self.state, self.make_step, self.count = state, make_step, 0
        self.size = data.batches.batch_size
        parts = endless(data)
        self.batches = iter(lambda: list(itertools.islice(parts, data.batches.subdivisions)), None)

    def run(self, steps, batches=None):
        for parts in itertools.islice(batches or self.batches, steps):
            self.count += 1
            self.state.set_step(1e-3, self.count)
            self.make_step(parts)

    def rate(self, steps, batches=None):
        """Return the images/s of a number of steps."""
        from train_throughput import now

        started = now(self.state.device)
        self.run(steps, batches)
        return steps * self.size / (now(self.state.device) - started)


def busy_share(steps, count):
    """Return the share of the time of some steps in which the GPU runs a kernel."""
    import torch
    from train_throughput import now

    device = steps.state.device
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        started = now(device)
        steps.run(count)
        seconds = now(device) - started
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy = end = 0
    for start, stop in spans:  # kernels may overlap
        busy += max(0, stop - max(start, end))
        end = max(end, stop)
    return busy / 1e6 / seconds


if __name__ == "__main__":
    cli.run(build_parser(), main)
