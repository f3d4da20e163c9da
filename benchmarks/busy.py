"""Measure training, evaluation and frames on a quiet machine, and while other programs use the cores.

    python3 benchmarks/busy.py --data data/mask.data --weights modelzoo/mask-352.pth model.onnx model.ncnn.param

Each measurement runs in its own process. Four cases alternate: with and without competing processes, each with this
project's settings and with OpenMP's default spinning on all cores. The competing processes never sleep. A process with
one thread per core can reach cores / (cores + competing processes) of its speed on a quiet machine; the goal is half of
that.
"""

import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from utils import cli

HERE, SPINNING = "here", "default spinning"
DEFAULT_SPIN_COUNT = "300000"  # of libgomp
COMPETITOR = "while True: pass"


def build_parser():
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help=".data file to train and evaluate on")
    add("--weights", nargs="+", default=[], metavar="FILE", help="weights and exported models to evaluate")
    add("--competing", type=cli.positive_int, default=2, metavar="N", help="processes that compete for the cores")
    add("--steps", type=cli.positive_int, default=10, metavar="N", help="training steps per measurement")
    add("--frames", type=cli.positive_int, default=200, metavar="N", help="frames per measurement")
    add("--repeats", type=cli.positive_int, default=5, metavar="N", help="rounds")
    add("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    from result_file import write_results
    from tqdm import tqdm

    tasks = {"training": (train, options.data, options.steps)}
    for weights in options.weights:
        tasks[f"evaluation, {Path(weights).name}"] = (evaluate, weights, options.data)
        tasks[f"frames, {Path(weights).name}"] = (detect_frames, weights, options.data, options.frames)
    cases = [(setting, competing) for setting in (HERE, SPINNING) for competing in (0, options.competing)]
    rates = {task: {case: [] for case in cases} for task in tasks}
    turns = [(task, case) for _ in range(options.repeats) for task in tasks for case in cases]
    for task, case in tqdm(turns, disable=None):
        setting, competing = case
        with competitors(competing):
            rates[task][case].append(run_alone(setting, *tasks[task]))
    measured = {task: summarize(by_case, options.competing) for task, by_case in rates.items()}
    for task, values in measured.items():
        print(task)
        for name, value in values.items():
            print(f"  {name:40}{value:8.2f}")
    if options.output:
        write_results(options.output, {"competing": options.competing, "cores": os.cpu_count(), "tasks": measured})


def summarize(rates, competing):
    """Return {name: value} from the images/s {(setting, competing processes): [per round]} of a task."""
    medians = {case: statistics.median(values) for case, values in rates.items()}
    quiet, busy = medians[HERE, 0], medians[HERE, competing]
    spinning = [medians[SPINNING, count] for count in (0, competing)]
    return {
        "quiet, images/s": quiet,
        "busy, images/s": busy,
        "busy / quiet": busy / quiet,
        "quiet with default spinning, images/s": spinning[0],
        "busy with default spinning, images/s": spinning[1],
        "quiet / quiet with default spinning": quiet / spinning[0],
    }


@contextmanager
def competitors(count):
    """Run `count` processes that use a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", COMPETITOR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_alone(setting, function, *arguments):
    """Call `function(setting, …)` in a new process with this setting of OpenMP, and return its result."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    before = os.environ["GOMP_SPINCOUNT"]  # set by utils.cli
    os.environ["GOMP_SPINCOUNT"] = DEFAULT_SPIN_COUNT if setting == SPINNING else before
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, setting, *arguments).result()
    finally:
        os.environ["GOMP_SPINCOUNT"] = before


def train(_, data, steps):
    """Return images/s of training, after a warm-up."""
    from train_throughput import measure, new_detector

    from utils.runtimes.device import select_device
    from utils.training.data import load_data
    from utils.training.settings import TrainOptions, read_settings
    from utils.training.state import build_state

    settings = read_settings(TrainOptions(data=data, device="cpu"))
    device = select_device("cpu")
    loaded = load_data(settings, device)
    seconds = measure(build_state(new_detector(settings.config), settings, device), loaded, steps)
    return steps * loaded.batches.batch_size / sum(seconds.values())


def evaluate(_, weights, data):
    """Return images/s of detection on the val list, with the images in the system's cache."""
    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.evaluation.detect import detect_images
    from utils.runtimes.loading import load_runtime

    config = read_config(data)
    index = open_list(config, "val")
    runtime = load_runtime(weights, config, "cpu")
    start = time.perf_counter()
    detect_images(runtime, index, config)
    return len(index) / (time.perf_counter() - start)


def detect_frames(setting, weights, data, count):
    """Return images/s of test.py on frames in memory."""
    import torch

    from utils.config import read_config
    from utils.dataset.images import read_image
    from utils.dataset.lists import list_images
    from utils.detect.run import FrameDetector, choose_threads
    from utils.postprocess import Thresholds
    from utils.runtimes.loading import load_runtime

    config = read_config(data)
    detector = FrameDetector(load_runtime(weights, config, "cpu"), config.size, Thresholds())
    if setting == SPINNING:
        detector.runtime.set_threads(torch.get_num_threads())
    else:
        choose_threads(detector, torch.get_num_threads())
    frames = [read_image(path) for path in list_images(config.val)[:16]]
    start = time.perf_counter()
    for number in range(count):
        detector(frames[number % len(frames)])
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    cli.run(build_parser(), main)
