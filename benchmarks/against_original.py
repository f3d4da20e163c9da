"""Compare training, evaluation and post-processing with the original's own code, in one run on one machine.

    python3 benchmarks/against_original.py --original ../Yolo-FastestV2 --data data/helmet.data \\
        --eval-data coco128.data --weights modelzoo/coco2017-0.241078ap-model.pth --output against_original.json

Each side runs ROUNDS times in its own process, in turns. --original is a copy of the original that current PyTorch and
NumPy versions can run: without the imports of torchsummary, numpy.core and numpy.testing and the call of summary();
with `int(gain[3]) - 1` and `int(gain[2]) - 1` as limits of the two clamp_ in utils/loss.py; and with the released
backbone.pth in model/backbone/. The rest is unchanged. Both sides read the same .data files. Their lists must contain
absolute paths, as the original expects.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
TASKS = ("train", "evaluate", "postprocess")
SIDES = ("original", "ours", "ours, default recipe")
BATCH = 32
WARM_UP = 5  # steps or calls that are not measured
REPEATS = 20  # calls of the post-processing
CONF, IOU = 0.01, 0.4
MATRIX = 2048  # rows and columns of the matrices that measure the peak
MACS = 117_568_440  # multiply-accumulates of the network with 80 classes at 352x352, by thop
PROJECT = Path(__file__).resolve().parents[1]


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", required=True, metavar="DIR", help="folder of the copy of the original")
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file to train on")
    parser.add_argument("--eval-data", required=True, metavar="FILE", help=".data file to evaluate on")
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint to evaluate")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="training steps per round (default: 30)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"rounds per side (default: {ROUNDS})")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser


def main(options):
    if options.side:
        (task,) = options.tasks
        measure = {"original": original_side, "ours": our_side, "ours, default recipe": our_side}[options.side]
        print(json.dumps(measure(task, options)))
        return
    measured = {}
    for task in options.tasks:
        sides = SIDES if task == "train" else SIDES[:2]
        rounds = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side in sides:
                rounds[side].append(run_side(task, side, options))
        measured[task] = {side: summary(values) for side, values in rounds.items()}
        for side in sides:
            print(describe(task, side, measured[task]), flush=True)
    if options.output:
        sys.path.insert(0, str(PROJECT))
        from result_file import write_results

        write_results(options.output, measured)


def run_side(task, side, options):
    """Measure once in a new process; return {name: value}."""
    paths = ("original", "data", "eval_data", "weights")
    given = [
        text for name in paths for text in (f"--{name.replace('_', '-')}", str(Path(getattr(options, name)).resolve()))
    ]
    command = [sys.executable, __file__, *given, "--steps", str(options.steps), "--tasks", task, "--side", side]
    folder = options.original if side == "original" else PROJECT
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {task}, {side}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(rounds):
    """Return {name: {"median", "low", "high"}} of several measurements."""
    columns = {name: [values[name] for values in rounds] for name in rounds[0]}
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)}
        for name, values in columns.items()
    }


def describe(task, side, sides):
    texts = []
    for name, values in sides[side].items():
        ratio = values["median"] / sides["original"][name]["median"] if name in sides["original"] else 1
        texts.append(f"{name} {values['median']:.4g} ({values['low']:.4g} to {values['high']:.4g}), x {ratio:.2f}")
    return f"{task:12}{side:22}{'; '.join(texts)}"


def original_side(task, options):
    """Call the original's functions in the order of its scripts."""
    sys.path.insert(0, str(Path(options.original).resolve()))
    import torch

    import utils.datasets
    import utils.loss
    import utils.utils
    from model.detector import Detector

    cfg = utils.utils.load_datafile(options.data if task == "train" else options.eval_data)
    device = torch.device("cpu")

    def loader(name, train):
        dataset = utils.datasets.TensorDataset(cfg[name], cfg["width"], cfg["height"], imgaug=train)
        return torch.utils.data.DataLoader(
            dataset,
            batch_size=BATCH,
            shuffle=train,
            collate_fn=utils.datasets.collate_fn,
            num_workers=min(os.cpu_count(), BATCH, 8),
            pin_memory=True,
            drop_last=train,
            persistent_workers=True,
        )

    network = Detector(cfg["classes"], cfg["anchor_num"], task != "train").to(device)
    if task == "train":
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.949, weight_decay=0.0005)
        network.train()

        def step(images, targets):
            images = images.to(device).float() / 255.0
            box, objectness, classes, total = utils.loss.compute_loss(network(images), targets.to(device), cfg, device)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            # The original's progress bar shows all four.
            return [float(loss) for loss in (box, objectness, classes, total)]

        return training_speed(endless(loader("train", True)), step, options.steps)
    network.load_state_dict(torch.load(options.weights, map_location=device))
    network.eval()
    if task == "evaluate":
        started = time.perf_counter()
        batches = loader("val", False)
        for threshold in (CONF, 0.3):  # one pass for AP, one for precision and recall
            utils.utils.evaluation(batches, cfg, network, device, threshold)
        return {"seconds": time.perf_counter() - started}
    images, _ = next(iter(loader("val", False)))
    with torch.no_grad():
        maps = network(images.float() / 255.0)

        def process():
            utils.utils.non_max_suppression(utils.utils.handel_preds(maps, cfg, device), CONF, IOU)

        return {"milliseconds": milliseconds(process)}


def our_side(task, options):
    sys.path.insert(0, str(PROJECT))
    import torch

    from evaluation import build_parser as evaluation_parser
    from model.detector import Detector
    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.evaluation.detect import detect_images
    from utils.evaluation.evaluate import compute_metrics
    from utils.postprocess import Thresholds, detect
    from utils.runtimes.loading import load_runtime
    from utils.training.data import load_data
    from utils.training.engine import train_step
    from utils.training.settings import TrainOptions, read_settings
    from utils.training.state import build_state

    if task == "train":
        recipe = "original" if options.side == "ours" else "default"
        settings = read_settings(TrainOptions(data=options.data, recipe=recipe, lr=1e-5, batch_size=BATCH))
        config, device = settings.config, torch.device("cpu")
        torch.manual_seed(0)
        state = build_state(Detector(config.classes, config.anchor_num), settings, device)
        data = load_data(settings, device)
        state.network.train()

        def step(*part):
            return train_step(state, [part], BATCH).tolist()

        return training_speed(endless(data.train_loader, data), step, options.steps)
    config = read_config(options.eval_data)
    if task == "evaluate":
        defaults = evaluation_parser().parse_args(["--data", options.eval_data, "--weights", options.weights])
        runtime = load_runtime(options.weights, config, "cpu")
        started = time.perf_counter()
        index = open_list(config, "val")
        detections = detect_images(runtime, index, config, defaults.batch_size, defaults.workers)
        compute_metrics(detections, index, config)
        return {"seconds": time.perf_counter() - started}
    runtime = load_runtime(options.weights, config, "cpu")
    index = open_list(config, "val")
    from utils.dataset.dataset import DetectionDataset

    dataset = DetectionDataset(index, config.width, config.height)
    images = torch.stack([dataset[index][0] for index in range(BATCH)]).float() / 255
    with torch.inference_mode():
        output = runtime.detector(images)
        return {"milliseconds": milliseconds(lambda: detect(output, config.anchors, Thresholds(CONF, IOU)))}


def endless(loader, data=None):
    """Yield batches, epoch after epoch."""
    epoch = 0
    while True:
        if data is not None:
            data.batches.start(epoch)
            data.train.set_epoch(epoch)
        yield from loader
        epoch += 1


def training_speed(batches, step, steps):
    """Measure images per second with data loading, the share of the sgemm peak, and the largest resident memory."""
    import torch

    for _ in range(WARM_UP):
        step(*next(batches))
    started = time.perf_counter()
    for _ in range(steps):
        step(*next(batches))
    speed = steps * BATCH / (time.perf_counter() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    peak = 2 * MATRIX**3 / (milliseconds(lambda: a @ b, min) / 1000)
    return {"images/s": speed, "share of the sgemm peak": speed * 3 * 2 * MACS / peak, "MiB": memory}


def milliseconds(function, choose=statistics.median):
    """Call a function repeatedly; return the milliseconds per call, by default the median."""
    times = []
    for _ in range(WARM_UP + REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return choose(times[WARM_UP:]) * 1000


if __name__ == "__main__":
    main(build_parser().parse_args())
