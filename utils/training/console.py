"""What a training run shows: what it is going to do, a bar, a line an epoch, what it wrote."""

import datetime
import sys
import time

from tqdm import tqdm

from utils.losses.original import Losses

FIRST_ESTIMATE = 60  # seconds after which the whole run's time is told


def detector_size(config):
    """(parameters, multiply-accumulates of one image) of a .data file's network, counted by thop."""
    import torch
    from thop import profile

    from model.detector import Detector

    # A network of its own, because thop leaves its counters behind.
    detector = Detector(config.classes, config.anchor_num).eval()
    macs, parameters = profile(detector, (torch.zeros(1, 3, config.height, config.width),), verbose=False)
    return int(parameters), macs


def describe_run(settings, data, start, device, processes):
    """Lines that say what a run is going to do.

    Args:
        settings: Settings.
        data: RunData.
        start: what it starts from, a line.
        device: torch.device.
        processes: number of them.
    """
    config, batches = settings.config, data.batches
    lines = []
    for key, index in data.indices.items():
        boxes = sum(map(len, index.labels))
        lines.append(f"{key:9}{len(index)} images, {boxes} boxes, {config.classes} classes: {index.source}")
    parameters, macs = detector_size(config)
    lines.append(f"model    {parameters:,} parameters, {macs / 1e6:.2f} MMAC at {config.width}x{config.height}")
    lines.append(f"start    {start}")
    parts = f" in {settings.subdivisions} parts" if settings.subdivisions > 1 else ""
    shared = f" over {processes} processes" if processes > 1 else ""
    lines.append(
        f"run      recipe {settings.recipe_name}, {settings.epochs} epochs of {batches.steps} steps, "
        f"batch {batches.batch_size}{parts}{shared}, evaluation every "
        f"{f'{settings.eval_interval} epochs' if settings.eval_interval > 1 else 'epoch'}"
    )
    options = [
        f"learning rate {settings.learning_rate:g} ({settings.recipe.schedule})",
        f"seed {settings.seed}",
        f"device {device}",
    ]
    options += [f"{settings.workers} workers"]
    options += [f"cache {settings.cache}"] if settings.cache else []
    options += [name for name in ("amp", "ema", "compile") if getattr(settings, name)]
    options += ["backbone frozen"] if settings.freeze_backbone else []
    options += [f"patience {settings.patience}"] if settings.patience else []
    lines.append(f"         {', '.join(options)}")
    return lines


class Screen:
    """A run's bar and lines; silent on all processes but the main one.

    Args:
        progress: Progress.
        epochs: of the run.
        batch_size: images a step.
        shown: whether this process is the one that prints.
    """

    def __init__(self, progress, epochs, batch_size, shown):
        self.progress, self.epochs, self.batch_size, self.shown = progress, epochs, batch_size, shown
        self._started, self._first = time.monotonic(), progress.done_steps
        self._told = False
        self._bar = tqdm(
            total=epochs * progress.steps,
            initial=self._first,
            unit="step",
            disable=None if shown else True,
            dynamic_ncols=True,
        )

    def close(self):
        self._bar.close()

    def say(self, line):
        """A line above the bar."""
        if self.shown:
            self._bar.write(line)
            sys.stdout.flush()

    def step(self, rate):
        """Show what `progress` says after more steps, the last with this learning rate."""
        progress = self.progress
        self._bar.update(progress.done_steps - self._bar.n)
        self._bar.set_description(f"epoch {progress.epoch + 1}/{self.epochs}")
        shown = {name: f"{value:.3f}" for name, value in progress.mean_losses().items()}
        self._bar.set_postfix(shown | {"lr": f"{rate:.2g}", "images/s": f"{self.speed():.1f}"}, refresh=False)
        if not self._told and time.monotonic() - self._started > FIRST_ESTIMATE:
            self._told = True
            self.say(f"about {self.time_left()} left")

    def epoch(self, row, better):
        """A line for a finished epoch, a second one if it was evaluated."""
        losses = "  ".join(f"{name} {row[name]:.4f}" for name in Losses._fields)
        self.say(
            f"epoch {row['epoch']}/{self.epochs}  {losses}  lr {row['learning_rate']:.3g}  "
            f"{row['images_per_second']:.1f} images/s  {self.time_left()} left"
        )
        if "AP50" in row:
            self.say(
                f"  AP50 {row['AP50']:.4f}  AP {row['AP']:.4f}{'  (best so far)' if better else ''}  "
                f"Precision:{row['precision']:.6f} Recall:{row['recall']:.6f} "
                f"AP:{row['original_AP']:.6f} F1:{row['F1']:.6f}"
            )

    def speed(self):
        """Images a second in this epoch's training."""
        return self.progress.step * self.batch_size / max(self.progress.seconds, 1e-9)

    def time_left(self):
        """As text, judged by this session of the run, evaluations included."""
        done, total = self.progress.done_steps, self.epochs * self.progress.steps
        seconds = (time.monotonic() - self._started) / max(done - self._first, 1) * (total - done)
        return str(datetime.timedelta(seconds=round(seconds)))
