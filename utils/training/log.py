"""Files of a training run: args.json, results.csv, TensorBoard events."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import warn
from utils.files import atomic_path, write_text
from utils.losses import Losses
from utils.provenance import git_state, versions
from utils.training.progress import Progress
from utils.training.settings import Settings, describe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = ("AP50", "AP", "precision", "recall", "original_AP", "F1")
COLUMNS = ("epoch", "step", "learning_rate", *Losses._fields, "images_per_second", *METRICS)
LOSSES = ("total", "box", "objectness", "classes")
FIGURES = {"AP50": "AP50", "AP": "AP", "original_AP": "AP, original's definition", "F1": "F1, original's"}
FEW_EPOCHS = 40  # up to here each gets a dot


def write_arguments(folder: Path, settings: Settings, progress: Progress) -> None:
    """Write args.json: the settings in force since this progress, and what else made the run.

    Args:
        folder: of the run.
    """
    lists = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in (("train", settings.config.train), ("val", settings.config.val))
        if path and path.is_file()
    }
    content = {
        "settings": describe(settings),
        "classes": settings.config.class_names,
        "since": {"epoch": progress.epoch, "step": progress.step},
        "lists_sha256": lists,
        "git": git_state(),
        "versions": versions(),
    }
    write_text(folder / "args.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_results(folder: Path, history: list[dict]) -> None:
    """Write results.csv, one row per epoch; metrics of epochs without evaluation stay empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "results.csv", text.getvalue())


def open_events(folder: Path, step: int) -> SummaryWriter | None:
    """Open a TensorBoard writer that continues after `step`; None, with a warning, if tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warn("no TensorBoard events: the package tensorboard is not installed (pip install tensorboard)")
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def write_events(events: SummaryWriter | None, row: dict) -> None:
    """Write one epoch's row to TensorBoard."""
    if events is None:
        return
    for name, value in row.items():
        if name not in ("epoch", "step"):
            group = "loss" if name in Losses._fields else "figures"
            events.add_scalar(f"{group}/{name}", value, row["step"])
    events.flush()


def draw_results(folder, history):
    """results.png: losses, learning rate and figures over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 7), layout="constrained")
    titles = {name: f"{'class' if name == 'classes' else name} loss" for name in LOSSES}
    titles |= {"learning_rate": "learning rate"}
    axes = figure.subplots(2, 3).flat
    epochs = [row["epoch"] for row in history]
    for axis, (name, title) in zip(axes, titles.items(), strict=False):
        axis.plot(epochs, [row[name] for row in history], marker="." if len(epochs) < FEW_EPOCHS else None)
        axis.set_title(title)
    last = figure.axes[-1]
    measured = [row for row in history if "AP50" in row]
    for name, label in FIGURES.items():
        last.plot([row["epoch"] for row in measured], [row[name] for row in measured], marker=".", label=label)
    last.set_title("val")
    last.set_ylim(bottom=0)
    last.legend(fontsize=8, framealpha=0.5)
    for axis in figure.axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    with atomic_path(folder / "results.png") as path:
        figure.savefig(path, dpi=100)
