"""What a training run prints: its settings, a progress bar, one line per epoch."""

import datetime
import math
import sys
import time

import torch
from tqdm import tqdm

from model.detector import Detector
from utils.config import Config
from utils.losses import Losses
from utils.machine import CoreWait
from utils.runtimes.device import describe_device
from utils.text import counted
from utils.training.data import RunData
from utils.training.distributed import world_size
from utils.training.plan import plan
from utils.training.progress import Progress
from utils.training.settings import Settings
from utils.training.state import TrainingState

FIRST_ESTIMATE = 20  # seconds after which the remaining time is printed for the first time


def model_size(config: Config) -> tuple[int, float | None]:
    """Count the parameters, and the multiply-accumulates per image, of a .data file's network.

    The second is None if the package thop is missing.
    """
    # A separate network, because thop adds counters to it.
    detector = Detector(config.classes, config.anchor_num).eval()
    parameters = sum(weight.numel() for weight in detector.parameters())
    try:
        from thop import profile
    except ImportError:
        return parameters, None
    macs, _ = profile(detector, (torch.zeros(1, 3, config.height, config.width),), verbose=False)
    return parameters, macs


def describe_run(settings: Settings, data: RunData, state: TrainingState, start: str, graph: bool) -> list[str]:
    """Return the lines that describe a run before it starts.

    Args:
        start: one line that says which weights the run starts from.
        graph: whether the steps are recorded as a CUDA graph.
    """
    config, batches, processes = settings.config, data.batches, world_size()
    lines = []
    for key, index in data.indices.items():
        images, boxes = counted(len(index), "image"), counted(sum(map(len, index.labels)), "box", "boxes")
        lines.append(f"{key:9}{images}, {boxes}, {counted(config.classes, 'class', 'classes')}: {index.source}")
    parameters, macs = model_size(config)
    operations = f", {macs / 1e6:.2f} MMAC at {config.width}x{config.height}" if macs else ""
    lines.append(f"model    {parameters:,} parameters{operations}")
    lines.append(f"start    {start}")
    parts = f" in {config.subdivisions} parts" if config.subdivisions > 1 else ""
    shared = f" over {processes} processes" if processes > 1 else ""
    interval = f"{settings.eval_interval} epochs" if settings.eval_interval > 1 else "epoch"
    lines.append(
        f"run      recipe {settings.recipe_name}, {counted(settings.epochs, 'epoch')} of "
        f"{counted(batches.steps, 'step')} ({settings.epochs * batches.steps:,} in all), "
        f"batch {batches.batch_size}{parts}{shared}, evaluation every {interval}"
    )
    options = [
        f"learning rate {settings.learning_rate:g} ({settings.recipe.schedule})",
        f"seed {settings.options.seed}",
        f"device {describe_device(state.device)}",
        counted(data.workers, "worker"),
    ]
    options += [f"cache {data.cache}"] if data.cache != "none" else []
    options += ["amp"] if state.amp else []
    options += ["ema"] if state.ema else []
    options += ["CUDA graph"] if graph else []
    options += ["backbone frozen"] if settings.options.freeze_backbone else []
    options += [f"patience {settings.options.patience}"] if settings.options.patience else []
    lines.append(f"         {', '.join(options)}")
    return lines


def suggest_epochs(settings: Settings, data: RunData) -> str:
    """Return a line that suggests more epochs; empty if the run has at least half of the steps that suit its images."""
    images, steps = len(data.train), data.batches.steps
    planned = plan(images)
    suitable = planned.epochs * (images // planned.batch_size)
    if settings.epochs * steps >= suitable / 2:
        return ""
    return f"hint     about {suitable:,} steps suit {images:,} images: --epochs {math.ceil(suitable / steps)}"


class Console:
    """The progress bar and the lines of a run.

    Args:
        shown: whether to print; False in all processes except the main one.
    """

    def __init__(self, progress: Progress, epochs: int, batch_size: int, shown: bool) -> None:
        self.progress, self.epochs, self.batch_size, self.shown = progress, epochs, batch_size, shown
        self._started, self._first_step = time.monotonic(), progress.total_steps
        self._estimated = False
        self._core_wait = CoreWait()  # of the current epoch
        self._bar = tqdm(
            total=epochs * progress.steps,
            initial=self._first_step,
            unit="step",
            disable=None if shown else True,
            dynamic_ncols=True,
            delay=1e-3,  # do not draw the bar before the first step
        )

    def start(self) -> None:
        """Start measuring the time."""
        self._started = time.monotonic()

    def close(self) -> None:
        """Close the progress bar."""
        self._bar.close()

    def print(self, line: str) -> None:
        """Print a line above the progress bar."""
        if self.shown:
            self._bar.write(line)
            sys.stdout.flush()

    def after_step(self, rate: float) -> None:
        """Update the bar from the progress; `rate` is the learning rate of the last step."""
        progress = self.progress
        self._bar.update(progress.total_steps - self._bar.n)
        self._bar.set_description(f"epoch {progress.epoch + 1}/{self.epochs}")
        shown = {name: f"{value:.3f}" for name, value in progress.mean_losses().items()}
        self._bar.set_postfix(
            shown | {"lr": f"{rate:.2g}", "images/s": f"{self.images_per_second():.1f}"}, refresh=False
        )
        if not self._estimated and time.monotonic() - self._started > FIRST_ESTIMATE:
            self._estimated = True
            self.print(", ".join(filter(None, (f"about {self.time_left()} left", self._core_wait.note()))))

    def after_epoch(self, row: dict, better: bool) -> None:
        """Print one line for a finished epoch, and two more if the epoch was evaluated."""
        losses = "  ".join(f"{name} {row[name]:.4f}" for name in Losses._fields)
        self.print(
            f"epoch {row['epoch']}/{self.epochs}  {losses}  lr {row['learning_rate']:.3g}  "
            f"{row['images_per_second']:.1f} images/s  {self.time_left()} left"
        )
        if note := self._core_wait.note():
            self.print(f"  {note}")
        self._core_wait = CoreWait()
        if "AP50" in row:
            self.print(f"  AP50 {row['AP50']:.4f}  AP {row['AP']:.4f}{'  (best so far)' if better else ''}")
            self.print(  # by the original's definition, in the original's format
                f"Precision:{row['precision']:.6f} Recall:{row['recall']:.6f} "
                f"AP:{row['original_AP']:.6f} F1:{row['F1']:.6f}"
            )

    def images_per_second(self) -> float:
        """Return the training speed in this epoch."""
        return self.progress.step * self.batch_size / max(self.progress.seconds, 1e-9)

    def time_left(self) -> str:
        """Estimate the remaining time from the mean time per step since the run was started or resumed."""
        done, total = self.progress.total_steps, self.epochs * self.progress.steps
        seconds = (time.monotonic() - self._started) / max(done - self._first_step, 1) * (total - done)
        return str(datetime.timedelta(seconds=round(seconds)))
