"""Measure images per second in training, the time of each part, and the share of the machine's matrix-multiply peak.

    python3 benchmarks/train_throughput.py --data data/shapes.data --steps 40
    python3 benchmarks/train_throughput.py --data data/shapes.data --workers 1 --cache ram

For a GPU see benchmarks/gpu.py.

Training needs three times the multiply-accumulates of the forward pass: forward pass, gradients of the inputs,
gradients of the weights. The peak is the speed of a large float32 matrix multiplication, measured before and after.
"""

import argparse
import contextlib
import time

from utils import cli

WARM_UP = 4  # steps that are not measured
MATRIX = 2048  # rows and columns of the matrices that measure the peak
MULTIPLICATIONS = 6


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file to train on")
    parser.add_argument("--steps", type=cli.positive_int, default=40, metavar="N", help="optimizer steps to measure")
    parser.add_argument(
        "--batch-size", type=cli.positive_int, metavar="N", help="images per step (default: from the .data file)"
    )
    parser.add_argument("--recipe", choices=("default", "original"), default="default", help="as in train.py")
    parser.add_argument("--device", default="auto", help="device: auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--workers", type=cli.worker_count, default=2, metavar="N", help="processes that read images")
    parser.add_argument("--cache", choices=("gpu", "ram", "disk", "none"), help="as in train.py")
    parser.add_argument("--amp", action="store_true", help="as in train.py")
    return parser


def main(options):
    from utils.optional import require
    from utils.runtimes.device import select_device
    from utils.training.console import model_size
    from utils.training.data import load_data
    from utils.training.settings import TrainOptions, read_settings
    from utils.training.state import build_state, join_processes

    require("thop", "the share of the machine's peak")
    names = ("data", "batch_size", "recipe", "device", "workers", "cache", "amp")
    settings = read_settings(TrainOptions(**{name: getattr(options, name) for name in names}))
    config = settings.config
    device = select_device(settings.options.device)
    data = load_data(settings, device)
    state = build_state(new_detector(config), settings, device)
    join_processes(state, settings)

    peak = sgemm_peak(device)
    seconds = measure(state, data, options.steps)
    peak = max(peak, sgemm_peak(device))
    images = options.steps * data.batches.batch_size
    total = sum(seconds.values())
    print(f"{images / total:.1f} images/s: {options.steps} steps of {data.batches.batch_size} images on {device}")
    for name, spent in seconds.items():
        print(f"  {name:18}{spent / options.steps * 1000:8.1f} ms per step  {spent / total:6.1%}")
    macs = model_size(config)[1]
    used = images / total * 3 * 2 * macs
    print(
        f"{used / 1e9:.1f} of {peak / 1e9:.1f} GFLOP/s of {MATRIX}x{MATRIX} float32 multiplications: {used / peak:.1%}"
    )
    print(f"  {macs / 1e6:.2f} MMAC forward at {config.width}x{config.height}, times 3 for training")


def new_detector(config):
    import torch

    from model.detector import Detector

    torch.manual_seed(0)
    return Detector(config.classes, config.anchor_num)


def sgemm_peak(device):
    """Return the floating-point operations per second of the fastest of a few large multiplications."""
    import torch

    a, b = (torch.randn(MATRIX, MATRIX, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(MULTIPLICATIONS):
        started = now(device)
        a @ b
        best = min(best, now(device) - started)
    return 2 * MATRIX**3 / best


def measure(state, data, steps):
    """Train for `steps` optimizer steps after a warm-up; return {part of a step: seconds}."""
    import dataclasses

    from utils.training.engine import train_step

    clock = Clock(state.device)
    timed = dataclasses.replace(state, network=clock.around(state.network, "forward"), scaler=TimedScaler(state, clock))
    state.model.train()
    parts = endless(data)
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            clock.seconds = dict.fromkeys(clock.seconds, 0.0)
            started = now(state.device)
        with clock.time("waiting for data"):
            step_parts = [next(parts) for _ in range(data.batches.subdivisions)]
        train_step(timed, step_parts, data.batches.batch_size)
    total = now(state.device) - started
    return {**clock.seconds, "assignment, loss": total - sum(clock.seconds.values())}


def endless(data):
    """Yield parts of batches, epoch after epoch."""
    epoch = 0
    while True:
        data.batches.start(epoch)
        data.train.set_epoch(epoch)
        yield from data.train_loader
        epoch += 1


class Clock:
    """Counts the seconds spent in named parts of a step."""

    def __init__(self, device):
        self.device = device
        self.seconds = dict.fromkeys(("waiting for data", "forward", "backward", "optimizer"), 0.0)

    @contextlib.contextmanager
    def time(self, name):
        started = now(self.device)
        yield
        self.seconds[name] += now(self.device) - started

    def around(self, function, name):
        """Wrap a function so that its time is counted."""

        def timed(*arguments):
            with self.time(name):
                return function(*arguments)

        return timed


class TimedScaler:
    """A GradScaler that measures the time of the backward pass and of the optimizer."""

    def __init__(self, state, clock):
        self.scaler, self.clock = state.scaler, clock
        self.step = clock.around(state.scaler.step, "optimizer")
        self.unscale_, self.update = state.scaler.unscale_, state.scaler.update

    def scale(self, loss):
        scaled = self.scaler.scale(loss)
        return argparse.Namespace(backward=self.clock.around(scaled.backward, "backward"))


def now(device):
    """Wait until the device is idle, then return the time in seconds."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    cli.run(build_parser(), main)
