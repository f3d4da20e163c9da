"""A training run from settings to weights, which can be stopped at any moment and goes on exactly."""

import dataclasses
import datetime
import functools
import math
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from model.detector import Detector
from utils import distributed
from utils.augment import AUGMENTATIONS
from utils.average import average_of
from utils.batches import EvaluationBatches, TrainBatches
from utils.checkpoint import load_matching, save_training, save_weights
from utils.datasets import DetectionDataset, load_index, make_loader
from utils.engine import EVAL_CONF, EVAL_IOU, Learner, collect_detections, measure, train_epoch
from utils.errors import InputError, RunError, warn
from utils.files import find_path, new_folder
from utils.loss import Losses
from utils.modelzoo import MANIFEST, obtain
from utils.recipe import learning_rate
from utils.run_log import draw_results, open_events, write_arguments, write_events, write_results
from utils.runtime import TorchRuntime, select_device

BACKBONE = MANIFEST.parent / "backbone.pth"
WEIGHTS = Path("weights")
EVAL_BATCH = 32
SAVE_SECONDS = 600  # a long epoch is saved in between
CHECK_STEPS = 20  # on a GPU, steps between two looks at the losses: each look waits for the device
SMALL_PART = 16  # images a process and part below which BatchNorm needs the other processes' images too


@dataclass
class Progress:
    """How far a run is; with the weights and the optimiser's state, all that going on needs."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # steps of the next one that are done
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Losses._fields))  # of its losses
    best_ap50: float = -1.0
    best_epoch: int = 0
    history: list[dict] = field(default_factory=list)  # a row of results.csv an epoch


def train(settings, options, saved=None):
    """Run, or go on with, a training.

    Args:
        settings: Settings.
        options: dict of train.py's options, kept in the checkpoints so that --resume needs none.
        saved: content of a `-last.pth` to go on from (`utils.checkpoint.read_training`).
    Returns:
        True if it ran to its end, False if the user stopped it.
    Raises:
        InputError, RunError: see the message.
    """
    device = select_device(_own_device(settings.device))
    with distributed.process_group(device):
        run = Run(settings, options, device, saved)
        with _stop_on_interrupt(run):
            run.train()
        return not run.stop


def newest_checkpoint():
    """The `-last.pth` in weights/ that was written last.

    Raises:
        InputError: there is none.
    """
    found = sorted(WEIGHTS.glob("*-last.pth"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"--resume: expected a run's NAME-last.pth in {WEIGHTS}/, found none")
    return found[-1]


def _own_device(name):
    """With several processes a machine, each takes the GPU of its number."""
    return f"cuda:{distributed.local_rank()}" if name in ("auto", "cuda") and torch.cuda.is_available() else name


class _stop_on_interrupt:
    """The first Ctrl-C lets the step end and save; the second is the usual one."""

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        self.previous = signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self.previous)

    def _handle(self, number, frame):
        if self.run.stop:
            signal.default_int_handler(number, frame)
        self.run.stop = True


def build_learner(detector, settings, device):
    """Network, optimiser and average as the settings and the recipe say."""
    recipe = settings.recipe
    detector.to(device, memory_format=torch.channels_last)
    if settings.freeze_backbone:
        detector.backbone.requires_grad_(False)
    average = average_of(detector) if settings.ema else None
    optimiser = torch.optim.SGD(
        (weight for weight in detector.parameters() if weight.requires_grad),
        lr=settings.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    amp = settings.amp and device.type == "cuda"
    if settings.amp and not amp:
        warn("--amp: mixed precision is for CUDA; training goes on in float32")
    network = detector
    processes = distributed.world_size()
    if processes > 1:
        part = settings.batch_size // (processes * settings.subdivisions)
        if device.type == "cuda" and part < SMALL_PART:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network = nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)
    if settings.compile:
        network = torch.compile(network)
    scaler = torch.amp.GradScaler(device.type, enabled=amp)
    frozen = (detector.backbone,) if settings.freeze_backbone else ()
    return Learner(detector, network, optimiser, scaler, average, device, amp, frozen)


def detector_size(config):
    """(parameters, multiply-accumulates of one image) of a .data file's network, counted by thop."""
    from thop import profile

    image = torch.zeros(1, 3, config.height, config.width)
    macs, parameters = profile(Detector(config.classes, config.anchor_num).eval(), (image,), verbose=False)
    return int(parameters), macs


def start_weights(detector, settings):
    """Fill a new detector as the settings say, and tell with what.

    Returns:
        one line for the user.
    """
    source = settings.weights
    if source == "scratch":
        return "random weights (scratch)"
    if source is not None:
        path = find_path(source, (Path(), settings.config.path.parent))
        skipped = load_matching(detector, obtain(path))
        rest = f"; skipped, because they do not fit: {', '.join(skipped)}" if skipped else ""
        return f"{path}{rest}"
    try:
        load_matching(detector, obtain(BACKBONE))
    except RunError as error:
        warn(f"starting from random weights, which costs many epochs and much accuracy: {error}")
        return "random weights: the ImageNet backbone cannot be had"
    return f"{BACKBONE.name}: the ImageNet backbone; the rest is random"


class Run:
    """A training run: what learns, its data, and how far it is."""

    def __init__(self, settings, options, device, saved):
        self.settings, self.options, self.device = settings, options, device
        self.stop = False
        config = settings.config
        torch.manual_seed(settings.seed)
        detector = Detector(config.classes, config.anchor_num)
        start = f"continued from {saved['path']}" if saved else start_weights(detector, settings)
        self.learner = build_learner(detector, settings, device)
        self.progress = Progress()
        if saved:
            self._restore(saved)
        else:
            self._name()
        self._load_data()
        if distributed.is_main():
            self._announce(start)

    @property
    def last_path(self):
        return WEIGHTS / f"{self.name}-last.pth"

    @property
    def best_path(self):
        return WEIGHTS / f"{self.name}-best.pth"

    def _name(self):
        """A name that no earlier run has: NAME, NAME-2, NAME-3, …"""
        name, number = self.settings.config.model_name, 1
        output = Path(self.settings.output)
        self.name = name
        while (output / self.name).exists() or self.last_path.exists():
            number += 1
            self.name = f"{name}-{number}"
        distributed.wait()  # until all have looked, and only then
        self.folder = new_folder(output, self.name) if distributed.is_main() else output / self.name

    def _restore(self, saved):
        learner = self.learner
        self.name, self.folder = saved["name"], Path(saved["folder"])
        learner.detector.load_state_dict(saved["model"])
        learner.optimiser.load_state_dict(saved["optimiser"])
        learner.scaler.load_state_dict(saved["scaler"])
        if learner.average is not None:
            learner.average.load_state_dict(saved["ema"])
        self.progress = Progress(**saved["progress"])

    def _load_data(self):
        settings, config = self.settings, self.settings.config
        rank, processes = distributed.rank(), distributed.world_size()
        indices = {}
        for name, source in (("train", config.train), ("val", config.val)):
            if source is None:
                raise InputError(f"{config.path}: {name}: expected a list of images, got None")
            indices[name] = load_index(source, config.classes)
        self.train_index, self.val_index = indices["train"], indices["val"]
        augment = AUGMENTATIONS[settings.recipe.augmentation]
        frame = (config.width, config.height)
        train_set = DetectionDataset(
            self.train_index, *frame, settings.cache, augment, settings.seed, corrupt="replace"
        )
        val_set = DetectionDataset(self.val_index, *frame, settings.cache, corrupt="blank")
        self.batches = TrainBatches(
            len(train_set),
            settings.batch_size,
            settings.subdivisions,
            settings.seed,
            settings.recipe.drop_last,
            rank,
            processes,
        )
        pin = self.device.type == "cuda"
        self.train_loader = make_loader(train_set, self.batches, settings.workers, pin)
        val_batches = EvaluationBatches(len(val_set), EVAL_BATCH, rank, processes)
        self.val_loader = make_loader(val_set, val_batches, settings.workers, pin)

    def _announce(self, start):
        settings, config, progress = self.settings, self.settings.config, self.progress
        for name, index in (("train", self.train_index), ("val", self.val_index)):
            boxes = sum(map(len, index.labels))
            print(f"{name:9}{len(index)} images, {boxes} boxes, {config.classes} classes: {index.source}")
        parameters, macs = detector_size(config)
        print(f"model    {self.name}: {parameters:,} parameters, {macs / 1e6:.2f} MMAC, {config.width}x{config.height}")
        print(f"start    {start}")
        processes = distributed.world_size()
        print(
            f"run      recipe {settings.recipe_name}, {settings.epochs} epochs of {self.batches.steps} steps, "
            f"batch {self.batches.batch_size}"
            + (f" in {settings.subdivisions} parts" if settings.subdivisions > 1 else "")
            + (f" over {processes} processes" if processes > 1 else "")
            + f", learning rate {settings.learning_rate:g}, seed {settings.seed}, device {self.device}"
        )
        print(f"output   {self.folder}, {WEIGHTS}/{self.name}-*.pth", flush=True)
        if progress.epoch == progress.step == 0:
            write_arguments(self.folder, settings)

    def train(self):
        settings, progress = self.settings, self.progress
        if progress.epoch == progress.step == 0:
            self.save()  # so that there is something to go on from at any moment
        main = distributed.is_main()
        self.events = open_events(self.folder, progress.epoch * self.batches.steps) if main else None
        self.started = self.saved = time.monotonic()
        self.steps_before = progress.epoch * self.batches.steps + progress.step
        self.told = False
        self.bar = tqdm(
            total=settings.epochs * self.batches.steps,
            initial=self.steps_before,
            unit="step",
            disable=None if main else True,
            dynamic_ncols=True,
        )
        with self.bar:
            while progress.epoch < settings.epochs and not self.stop and not self._out_of_patience():
                self._epoch()
        if main and self.stop:
            print(f"stopped in epoch {progress.epoch + 1}; go on with: python3 train.py --resume {self.last_path}")
        if main and not self.stop:
            self._finish()

    def _epoch(self):
        settings, progress = self.settings, self.progress
        steps = self.batches.steps
        self.batches.start(progress.epoch, progress.step)
        self.train_loader.dataset.set_epoch(progress.epoch)
        self.pending = []
        self.epoch_started, self.epoch_first = time.monotonic(), progress.step

        def rate_at(step):
            done = progress.epoch * steps + step
            return learning_rate(settings.recipe, settings.learning_rate, settings.config.steps, done, steps)

        train_epoch(
            self.learner,
            self.train_loader,
            self.batches,
            settings.recipe,
            settings.config.anchors,
            rate_at,
            progress.step,
            self._after_step,
        )
        if progress.step < steps:
            self.save()
            return
        self._end_epoch(rate_at(steps - 1))

    def _after_step(self, step, losses, rate):
        """Note a step's losses, look at them now and then, save in between; True if the run is to stop."""
        progress = self.progress
        self.pending.append(losses)
        progress.step = step + 1
        last = progress.step == self.batches.steps
        if self.device.type != "cpu" and len(self.pending) < CHECK_STEPS and not last:
            return False
        self._look_at_losses(rate)
        self.stop = distributed.any_process(self.stop)
        if self.stop:
            return True
        if not last and time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()
        return False

    def _look_at_losses(self, rate):
        """Wait for the device, add up the losses of the steps since the last look, and stop if one is not finite."""
        progress = self.progress
        losses = torch.stack(self.pending).double().cpu()
        first = progress.step - len(self.pending)
        for number, row in enumerate(losses.tolist()):
            if not all(map(math.isfinite, row)):
                self._fail_on_loss(first + number, row)
            progress.sums = [total + value for total, value in zip(progress.sums, row, strict=True)]
        self.bar.update(len(self.pending))
        self.pending = []
        means = dict(zip(Losses._fields, (total / progress.step for total in progress.sums), strict=True))
        self.bar.set_description(f"epoch {progress.epoch + 1}/{self.settings.epochs}")
        shown = {name: f"{value:.3f}" for name, value in means.items()}
        self.bar.set_postfix(shown | {"lr": f"{rate:.2g}", "images/s": f"{self._speed():.1f}"}, refresh=False)
        if not self.told and time.monotonic() - self.started > 60:
            self.told = True
            self._tell(f"about {self._time_left()} left")

    def _speed(self):
        steps = self.progress.step - self.epoch_first
        return steps * self.batches.batch_size / max(time.monotonic() - self.epoch_started, 1e-9)

    def _time_left(self):
        done = self.progress.epoch * self.batches.steps + self.progress.step
        total = self.settings.epochs * self.batches.steps
        seconds = (time.monotonic() - self.started) / max(done - self.steps_before, 1) * (total - done)
        return str(datetime.timedelta(seconds=round(seconds)))

    def _fail_on_loss(self, step, row):
        epoch = self.progress.epoch
        names = [self.train_index.images[number].name for number in self.batches.numbers(epoch, step)]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        values = ", ".join(f"{name} {value}" for name, value in zip(Losses._fields, row, strict=True))
        raise RunError(
            f"the loss is not finite in epoch {epoch + 1}, batch {step + 1} ({values}); images: {shown}. "
            f"Try a lower --lr, check the data with tools/check_dataset.py, or go without --amp. "
            f"{self.last_path} is whole: it was saved before"
        )

    def _end_epoch(self, rate):
        settings, progress = self.settings, self.progress
        steps = self.batches.steps
        row = {
            "epoch": progress.epoch + 1,
            "step": (progress.epoch + 1) * steps,
            "learning_rate": rate,
            **dict(zip(Losses._fields, (total / steps for total in progress.sums), strict=True)),
            "images_per_second": round(self._speed(), 2),
        }
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, [0.0] * len(Losses._fields)
        if progress.epoch % settings.eval_interval == 0 or progress.epoch == settings.epochs:
            row |= self._evaluate()
        progress.history.append(row)
        better = "AP50" in row and row["AP50"] > progress.best_ap50
        if better:
            progress.best_ap50, progress.best_epoch = row["AP50"], progress.epoch
        if not distributed.is_main():
            return
        self._report(row, better)
        if "AP50" in row:
            name = f"{self.name}-{progress.epoch}-epoch-{row['original_AP']:.6f}ap-model.pth"
            save_weights(WEIGHTS / name, self.learner.best_network)
            if better:
                save_weights(self.best_path, self.learner.best_network)
        self.save()
        write_results(self.folder, progress.history)
        write_events(self.events, row)
        draw_results(self.folder, progress.history)

    def _evaluate(self):
        """Figures of the val list, measured by every process on the detections of all."""
        config = self.settings.config
        network = self.learner.best_network
        distributed.same_everywhere(network)
        runtime = TorchRuntime(network, config, self.device)
        predict = functools.partial(runtime.predict, conf=EVAL_CONF, iou=EVAL_IOU)
        detections = distributed.gather_lists(collect_detections(predict, self.val_loader, len(self.val_index)))
        self.evaluation = measure(detections, self.val_index, (config.width, config.height), config.class_names)
        original, figures = self.evaluation.original, self.evaluation.coco.figures
        return {
            "AP50": figures["AP50"],
            "AP": figures["AP"],
            "precision": original.precision,
            "recall": original.recall,
            "original_AP": original.ap,
            "F1": original.f1,
        }

    def _report(self, row, better):
        losses = "  ".join(f"{name} {row[name]:.4f}" for name in Losses._fields)
        line = (
            f"epoch {row['epoch']}/{self.settings.epochs}  {losses}  lr {row['learning_rate']:.3g}  "
            f"{row['images_per_second']:.1f} images/s  {self._time_left()} left"
        )
        if "AP50" in row:
            line += (
                f"\n  AP50 {row['AP50']:.4f}  AP {row['AP']:.4f}{'  (best so far)' if better else ''}  "
                f"Precision:{row['precision']:.6f} Recall:{row['recall']:.6f} "
                f"AP:{row['original_AP']:.6f} F1:{row['F1']:.6f}"
            )
        self._tell(line)

    def _tell(self, line):
        if distributed.is_main():
            self.bar.write(line)
            sys.stdout.flush()

    def _out_of_patience(self):
        patience, progress = self.settings.patience, self.progress
        out = bool(patience) and bool(progress.best_epoch) and progress.epoch - progress.best_epoch >= patience
        if out:
            self._tell(f"no better AP50 since epoch {progress.best_epoch}, {patience} epochs ago: the run ends here")
        return out

    def save(self):
        """Write everything that is needed to go on; the process that is not the main one does nothing."""
        self.saved = time.monotonic()
        if distributed.is_main():
            state = {
                "name": self.name,
                "folder": str(self.folder),
                "options": self.options,
                "progress": dataclasses.asdict(self.progress),
            }
            save_training(self.last_path, self.learner, state)

    def _finish(self):
        progress = self.progress
        if self.events is not None:
            self.events.close()
        print(f"best     AP50 {progress.best_ap50:.4f} after epoch {progress.best_epoch}: {self.best_path}")
        print(f"wrote    {self.folder}/ (results.csv, results.png, args.json, TensorBoard events)")
        print(f"wrote    {WEIGHTS}/{self.name}-*.pth")
